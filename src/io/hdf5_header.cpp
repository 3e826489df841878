// io/hdf5_header.cpp: makes and checks the header of our files.
#include "io/hdf5_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "fedit/io/atomic_file.h"

namespace fedit {
namespace {

static_assert(std::endian::native == std::endian::little, "header fields are little-endian");

// As in PNG: the line ends show a transfer in text mode, the last byte stops a listing on a
// console.
constexpr std::string_view magic = "FEDIT\r\n\x1a";
constexpr std::size_t kind_offset = 8;
constexpr std::size_t schema_offset = 12;
constexpr std::size_t length_offset = 16;
constexpr std::size_t digest_offset = 24;
constexpr std::size_t fields_end = 56;

constexpr const char* damaged =
    "restore the file from a copy, or remove it and let fedit write it again";

template <class Field>
void put(std::span<std::byte> header, std::size_t offset, const Field& field) {
    std::memcpy(header.data() + offset, &field, sizeof field);
}

template <class Field>
Field get(std::span<const std::byte> file, std::size_t offset) {
    Field field;
    std::memcpy(&field, file.data() + offset, sizeof field);
    return field;
}

bool has_magic(std::span<const std::byte> file) {
    return file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

std::string_view to_string(FileKind kind) {
    switch (kind) {
        case FileKind::run_log:
            return "run log";
        case FileKind::checkpoint:
            return "checkpoint";
        case FileKind::client_state:
            return "client state";
        case FileKind::client_upload:
            return "client upload";
        case FileKind::progress:
            return "progress of a half-trained client";
    }
    return "file of an unknown kind";
}

std::array<std::byte, file_header_size> make_file_header(FileKind kind,
                                                         std::span<const std::byte> image) {
    std::array<std::byte, file_header_size> header{};
    std::memcpy(header.data(), magic.data(), magic.size());
    put(header, kind_offset, static_cast<std::uint32_t>(kind));
    put(header, schema_offset, file_schema);
    put(header, length_offset, std::uint64_t{image.size()});
    put(header, digest_offset, sha256(image));
    return header;
}

std::optional<Fault> find_file_fault(std::span<const std::byte> file, FileKind kind,
                                     const std::string& source) {
    const auto fault = [&](std::string what, std::string remedy) {
        return Fault{.what = std::move(what), .where = source, .remedy = std::move(remedy)};
    };
    const std::string_view wanted = to_string(kind);
    if (!has_magic(file)) {
        return fault("not a file that fedit wrote, or its first bytes are damaged",
                     fmt::format("give a {} written by fedit", wanted));
    }
    if (file.size() < file_header_size) {
        return fault(fmt::format("the file is cut off within its header: {} bytes", file.size()),
                     damaged);
    }
    const auto found = static_cast<FileKind>(get<std::uint32_t>(file, kind_offset));
    if (found != kind) {
        return fault(fmt::format("this is a {}, not a {}", to_string(found), wanted),
                     fmt::format("give a {} written by fedit", wanted));
    }
    const auto schema = get<std::uint32_t>(file, schema_offset);
    if (schema != file_schema) {
        return fault(
            fmt::format("written in schema {}; this program reads schema {}", schema, file_schema),
            "use the version of fedit that wrote it");
    }
    const auto length = get<std::uint64_t>(file, length_offset);
    const std::span<const std::byte> image = file.subspan(file_header_size);
    if (length != image.size()) {
        return fault(
            fmt::format("the file is {}: {} bytes after the header, which says {}",
                        image.size() < length ? "cut off" : "too long", image.size(), length),
            damaged);
    }
    const auto padding = file.subspan(fields_end, file_header_size - fields_end);
    if (std::ranges::any_of(padding, [](std::byte byte) { return byte != std::byte{0}; })) {
        return fault("the header is damaged", damaged);
    }
    if (get<Digest>(file, digest_offset) != sha256(image)) {
        return fault("the content is damaged: its SHA-256 is not the one in the header", damaged);
    }
    return std::nullopt;
}

bool is_intact(const std::filesystem::path& path, FileKind kind) {
    try {
        return !find_file_fault(read_file(path), kind, path.string());
    } catch (const Error&) {
        return false;  // absent or unreadable: not intact
    }
}

}  // namespace fedit
