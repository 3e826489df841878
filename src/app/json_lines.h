// app/json_lines.h: files, or standard input, with one JSON value a line.
#pragma once

#include <functional>
#include <string>

#include "fedit/io/json.h"

namespace fedit {

/// Gives each line of `path` (- : standard input) to `take`, parsed. Throws InputError with the
/// faults of all lines, at most 20, also those that `take` throws; `wanted` says what the file
/// should hold, for the message if it cannot be opened.
void read_json_lines(const std::string& path, const std::string& wanted,
                     const std::function<void(const Json&)>& take);

}  // namespace fedit
