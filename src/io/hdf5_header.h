// io/hdf5_header.h: the 512 bytes before every HDF5 image of ours.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "fedit/core/error.h"
#include "fedit/io/hdf5_image.h"

namespace fedit {

/// The header of a file whose bytes after the first 512 are `image`. Little-endian:
/// magic (8 bytes), kind (4), schema (4), length of the image (8), its SHA-256 (32), zeros.
std::array<std::byte, file_header_size> make_file_header(FileKind kind,
                                                         std::span<const std::byte> image);

/// What is wrong with a whole file, or nothing. Every byte is covered by one of the checks.
std::optional<Fault> find_file_fault(std::span<const std::byte> file, FileKind kind,
                                     const std::string& source);

}  // namespace fedit
