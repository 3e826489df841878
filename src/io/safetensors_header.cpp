// io/safetensors_header.cpp: every check on a safetensors file, before a byte of data is used.
#include "io/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/io/json.h"

namespace fedit {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format stores little-endian numbers");

constexpr std::uint64_t max_header_length = 100'000'000;
constexpr std::size_t max_tensors = 100'000;
constexpr std::size_t max_name_length = 1024;
constexpr std::size_t max_faults = 10;
constexpr std::size_t length_size = 8;
constexpr const char* fetch_again = "the file is damaged or cut off: fetch or write it again";
constexpr const char* write_again = "write the file again with a safetensors library";

struct TypeRow {
    StoredType type;
    std::string_view name;
    std::size_t size;
};
constexpr std::array<TypeRow, 15> types{{
    {StoredType::boolean, "BOOL", 1},
    {StoredType::u8, "U8", 1},
    {StoredType::i8, "I8", 1},
    {StoredType::f8_e5m2, "F8_E5M2", 1},
    {StoredType::f8_e4m3, "F8_E4M3", 1},
    {StoredType::i16, "I16", 2},
    {StoredType::u16, "U16", 2},
    {StoredType::f16, "F16", 2},
    {StoredType::bf16, "BF16", 2},
    {StoredType::i32, "I32", 4},
    {StoredType::u32, "U32", 4},
    {StoredType::f32, "F32", 4},
    {StoredType::i64, "I64", 8},
    {StoredType::u64, "U64", 8},
    {StoredType::f64, "F64", 8},
}};

const TypeRow& row_of(StoredType type) {
    return *std::ranges::find(types, type, &TypeRow::type);
}

std::string type_names() {
    std::string names;
    for (const TypeRow& row : types) names += (names.empty() ? "" : ", ") + std::string(row.name);
    return names;
}

std::string shape_text(const StoredTensor& tensor) {
    return fmt::format("{} [{}]", to_string(tensor.type), fmt::join(tensor.shape, ", "));
}

StoredType parse_type(const Json& json) {
    const std::string& name = json.as_string();
    const auto* row = std::ranges::find(types, name, &TypeRow::name);
    if (row == types.end()) {
        throw InputError({.what = fmt::format("unknown dtype {}", json.excerpt()),
                          .where = json.where(),
                          .remedy = "known: " + type_names()});
    }
    return row->type;
}

StoredTensor parse_tensor(const Json& json) {
    StoredTensor tensor;
    tensor.type = parse_type(json["dtype"]);
    const Json shape = json["shape"];
    if (!shape.is_array()) shape[std::size_t{0}];  // throws: expected an array
    for (std::size_t i = 0; i < shape.size(); ++i) tensor.shape.push_back(shape[i].as_int(0));
    const Json offsets = json["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) {
        throw InputError(
            {.what = fmt::format("data_offsets must be two integers, found {}", offsets.excerpt()),
             .where = offsets.where(),
             .remedy = write_again});
    }
    tensor.begin = static_cast<std::uint64_t>(offsets[std::size_t{0}].as_int(0));
    tensor.end = static_cast<std::uint64_t>(offsets[std::size_t{1}].as_int(0));
    const auto size = byte_size(tensor.type, tensor.shape);
    if (!size) {
        throw InputError(
            {.what = fmt::format("the size of {} overflows 64 bits", shape_text(tensor)),
             .where = shape.where(),
             .remedy = write_again});
    }
    if (tensor.end < tensor.begin || tensor.end - tensor.begin != *size) {
        throw InputError(
            {.what = fmt::format("data_offsets [{}, {}] do not hold the {} bytes of {}",
                                 tensor.begin, tensor.end, *size, shape_text(tensor)),
             .where = offsets.where(),
             .remedy = fetch_again});
    }
    return tensor;
}

std::map<std::string, std::string> parse_metadata(const Json& json) {
    std::map<std::string, std::string> metadata;
    for (const std::string& key : json.keys()) metadata.emplace(key, json[key].as_string());
    return metadata;
}

void check_name(const std::string& name, const std::string& source) {
    if (name.size() <= max_name_length) return;
    throw InputError({.what = fmt::format("a tensor's name has {} bytes; at most {} are read",
                                          name.size(), max_name_length),
                      .where = fmt::format("{}, header, \"{}...\"", source, name.substr(0, 40)),
                      .remedy = "rename the tensor"});
}

/// The tensors must fill the data section in order, without hole or overlap.
void check_coverage(const SafetensorsHeader& header, std::uint64_t data_size,
                    const std::string& source) {
    using Entry = std::pair<const std::string, StoredTensor>;
    std::vector<const Entry*> order;
    for (const Entry& entry : header.tensors) order.push_back(&entry);
    std::ranges::sort(order, {}, [](const Entry* entry) {
        return std::pair(entry->second.begin, entry->second.end);
    });
    std::uint64_t covered = 0;
    for (const Entry* entry : order) {
        if (entry->second.begin != covered) {
            const char* what = entry->second.begin < covered ? "overlaps the tensor before it"
                                                             : "leaves a hole before it";
            throw InputError({.what = fmt::format("the data of a tensor {}: it begins at byte {}, "
                                                  "the data before it ends at {}",
                                                  what, entry->second.begin, covered),
                              .where = fmt::format("{}, tensor {}", source, entry->first),
                              .remedy = fetch_again});
        }
        covered = entry->second.end;
    }
    if (covered != data_size) {
        throw InputError(
            {.what = fmt::format("the header describes {} bytes of data, the file has {}", covered,
                                 data_size),
             .where = source,
             .remedy = fetch_again});
    }
}

std::string_view header_text(std::span<const std::byte> file, const std::string& source) {
    if (file.size() < length_size) {
        throw InputError({.what = fmt::format("not a safetensors file: only {} bytes", file.size()),
                          .where = source,
                          .remedy = fetch_again});
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), length_size);
    if (length > max_header_length) {
        throw InputError(
            {.what = fmt::format("not a safetensors file, or a damaged one: a header of "
                                 "{} bytes (at most {} are allowed)",
                                 length, max_header_length),
             .where = source,
             .remedy = "give a file in the safetensors format"});
    }
    if (length > file.size() - length_size) {
        throw InputError(
            {.what = fmt::format("the file is cut off: a header of {} bytes, but only {} "
                                 "bytes follow",
                                 length, file.size() - length_size),
             .where = source,
             .remedy = fetch_again});
    }
    const char* text = reinterpret_cast<const char*>(file.data()) + length_size;
    if (length == 0 || *text != '{') {
        throw InputError({.what = "the header does not begin with '{'",
                          .where = source + ", header",
                          .remedy = "give a file in the safetensors format"});
    }
    return {text, static_cast<std::size_t>(length)};
}

}  // namespace

std::string_view to_string(StoredType type) {
    return row_of(type).name;
}

std::size_t size_of(StoredType type) {
    return row_of(type).size;
}

std::optional<std::uint64_t> byte_size(StoredType type, std::span<const std::int64_t> shape) {
    // A zero anywhere makes the size zero, whatever the other dimensions would overflow to.
    if (std::ranges::find(shape, 0) != shape.end()) return 0;
    std::uint64_t size = size_of(type);
    for (const std::int64_t dimension : shape) {
        const auto factor = static_cast<std::uint64_t>(dimension);
        if (size > std::uint64_t{std::numeric_limits<std::int64_t>::max()} / factor) return {};
        size *= factor;
    }
    return size;
}

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::string& source) {
    const std::string_view text = header_text(file, source);
    const Json json = Json::parse(text, source + ", header");
    SafetensorsHeader header;
    header.data_start = length_size + text.size();
    if (json.size() > max_tensors) {
        throw InputError(
            {.what = fmt::format("{} tensors; at most {} are read", json.size(), max_tensors),
             .where = source + ", header",
             .remedy = "split the file into shards"});
    }
    std::vector<Fault> faults;
    for (const std::string& name : json.keys()) {
        if (faults.size() >= max_faults) break;
        try {
            check_name(name, source);
            if (name == "__metadata__") {
                header.metadata = parse_metadata(json[name]);
            } else {
                header.tensors.emplace(name, parse_tensor(json[name]));
            }
        } catch (const InputError& error) {
            faults.insert(faults.end(), error.faults().begin(), error.faults().end());
        }
    }
    if (!faults.empty()) throw InputError(std::move(faults));
    check_coverage(header, file.size() - header.data_start, source);
    return header;
}

}  // namespace fedit
