// io/io_error.h: turns an errno into an error that says what to do about it.
#pragma once

#include <filesystem>
#include <string_view>

#include "fedit/core/error.h"

namespace fedit {

/// "cannot ACTION: CAUSE", where: the path, do: what cures this cause (free space, permissions,
/// ...).
IoError make_io_error(int error_number, std::string_view action, const std::filesystem::path& path);

/// Throws for a file that was to be read: InputError if the user named a file that is not there or
/// may not be read, IoError for anything else.
[[noreturn]] void throw_read_error(int error_number, const std::filesystem::path& path);

}  // namespace fedit
