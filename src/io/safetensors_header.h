// io/safetensors_header.h: the header of a safetensors file, parsed and checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "fedit/io/safetensors.h"

namespace fedit {

struct SafetensorsHeader {
    std::map<std::string, StoredTensor> tensors;
    std::map<std::string, std::string> metadata;
    std::size_t data_start = 0;  ///< bytes from the start of the file
};

/// Elements of a shape times bytes each, or nothing where that passes 2^63 - 1.
std::optional<std::uint64_t> byte_size(StoredType type, std::span<const std::int64_t> shape);

/// Checks all that the format asks for against the whole file. Throws InputError with up to ten
/// faults; `source` names the file.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file,
                                           const std::string& source);

}  // namespace fedit
