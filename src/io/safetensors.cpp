// io/safetensors.cpp: a mapped safetensors file and the conversion of its tensors.
#include "fedit/io/safetensors.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/core/similar.h"
#include "io/file_descriptor.h"
#include "io/io_error.h"
#include "io/safetensors_header.h"

namespace fedit {
namespace {

/// A whole file, mapped read-only.
class Mapping {
public:
    explicit Mapping(const std::filesystem::path& path) {
        const FileDescriptor file = open_for_reading(path);
        const std::size_t size = file_size(file, path);
        if (size == 0) return;  // an empty file cannot be mapped, and need not be
        void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
        if (address == MAP_FAILED) throw make_io_error(errno, "map the file into memory", path);
        bytes_ = {static_cast<const std::byte*>(address), size};
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    ~Mapping() {
        if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    }
    std::span<const std::byte> bytes() const noexcept { return bytes_; }

private:
    std::span<const std::byte> bytes_;
};

/// The data may lie at any address: elements are copied out one by one.
template <class Stored, class Use>
void for_each_element(std::span<const std::byte> bytes, Use use) {
    for (std::size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
        Stored value;
        std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
        use(i, value);
    }
}

std::string shape_text(std::span<const std::int64_t> shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

std::int64_t StoredTensor::elements() const {
    return static_cast<std::int64_t>((end - begin) / size_of(type));
}

struct SafetensorsFile::Impl {
    explicit Impl(const std::filesystem::path& file_path)
        : path(file_path),
          mapping(file_path),
          header(parse_safetensors_header(mapping.bytes(), file_path.string())) {}

    std::string where(const std::string& name) const { return path.string() + ", tensor " + name; }

    std::filesystem::path path;
    Mapping mapping;
    SafetensorsHeader header;
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

const std::filesystem::path& SafetensorsFile::path() const {
    return impl_->path;
}

const std::map<std::string, StoredTensor>& SafetensorsFile::tensors() const {
    return impl_->header.tensors;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
    return impl_->header.metadata;
}

bool SafetensorsFile::has(const std::string& name) const {
    return tensors().contains(name);
}

const StoredTensor& SafetensorsFile::tensor(const std::string& name) const {
    const auto found = tensors().find(name);
    if (found != tensors().end()) return found->second;
    std::vector<std::string> known;
    for (const auto& entry : tensors()) known.push_back(entry.first);
    const std::vector<std::string> near = similar_names(name, known);
    throw InputError(
        {.what = fmt::format("the tensor \"{}\" is missing", name),
         .where = fmt::format("{}, which holds {} tensors", impl_->path.string(), known.size()),
         .remedy = near.empty() ? "give a file that holds it" : "similar names: " + join(near)});
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
    const StoredTensor& stored = tensor(name);
    return impl_->mapping.bytes().subspan(impl_->header.data_start + stored.begin,
                                          stored.end - stored.begin);
}

std::int64_t SafetensorsFile::read_floats(const std::string& name, std::span<float> out,
                                          int threads) const {
    const StoredTensor& stored = tensor(name);
    if (std::ssize(out) != stored.elements()) {
        throw ShapeError({.what = fmt::format("{} floats wanted from a tensor of shape {}",
                                              out.size(), shape_text(stored.shape)),
                          .where = impl_->where(name),
                          .remedy = "this is a mistake in fedit: please report it"});
    }
    if (stored.type != StoredType::f32 && stored.type != StoredType::f16 &&
        stored.type != StoredType::bf16) {
        throw InputError({.what = fmt::format("elements of type {} cannot be used as weights",
                                              to_string(stored.type)),
                          .where = impl_->where(name),
                          .remedy = "convert the tensor to F32, F16 or BF16"});
    }
    return to_floats(stored.type, bytes(name), out.data(), threads);
}

std::vector<float> SafetensorsFile::read_floats(const std::string& name) const {
    std::vector<float> values(static_cast<std::size_t>(tensor(name).elements()));
    read_floats(name, values);
    return values;
}

std::vector<std::int32_t> SafetensorsFile::read_int32(const std::string& name) const {
    const StoredTensor& stored = tensor(name);
    std::vector<std::int32_t> values(static_cast<std::size_t>(stored.elements()));
    const auto keep = [&](std::size_t i, std::int64_t value) {
        if (!std::in_range<std::int32_t>(value)) {
            throw InputError(
                {.what = fmt::format("element {} is {}: too large for 32 bits", i, value),
                 .where = impl_->where(name),
                 .remedy = "give integers of 32 bits"});
        }
        values[i] = static_cast<std::int32_t>(value);
    };
    if (stored.type == StoredType::i32) {
        for_each_element<std::int32_t>(bytes(name), keep);
    } else if (stored.type == StoredType::i64) {
        for_each_element<std::int64_t>(bytes(name), keep);
    } else {
        throw InputError({.what = fmt::format("elements of type {} cannot be used as integers",
                                              to_string(stored.type)),
                          .where = impl_->where(name),
                          .remedy = "convert the tensor to I32 or I64"});
    }
    return values;
}

}  // namespace fedit
