// model/shape_text.cpp: shapes and lists of names as an error message shows them.
#include "model/shape_text.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace fedit {

std::string shape_text(const std::vector<std::int64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string name_some(const std::vector<std::string>& names) {
    constexpr std::size_t most = 8;
    const std::size_t shown = std::min(most, names.size());
    const std::string text =
        fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<long>(shown), ", "));
    if (shown == names.size()) return text;
    return fmt::format("{} and {} more", text, names.size() - shown);
}

}  // namespace fedit
