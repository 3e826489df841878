// core/similar.h: the nearest known names to one that is not known, for error messages.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// Up to `count` of `known` that differ from `name` by few letters (Levenshtein distance of at most
/// a third of its length, at least 1), nearest first; of equal distance, in the order given.
std::vector<std::string> similar_names(std::string_view name, std::span<const std::string> known,
                                       std::size_t count = 3);

/// "a, b, c".
std::string join(std::span<const std::string> texts, std::string_view separator = ", ");

}  // namespace fedit
