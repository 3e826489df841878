// model/shape_text.h: shapes and lists of names as an error message shows them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fedit {

/// "[384, 64]".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// The first few names, and how many more there are.
std::string name_some(const std::vector<std::string>& names);

}  // namespace fedit
