// core/similar.cpp: Levenshtein distance with one row of the table.
#include "fedit/core/similar.h"

#include <algorithm>
#include <numeric>

namespace fedit {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
        }
    }
    return row.back();
}

}  // namespace

std::vector<std::string> similar_names(std::string_view name, std::span<const std::string> known,
                                       std::size_t count) {
    const std::size_t limit = std::max<std::size_t>(1, name.size() / 3);
    std::vector<std::pair<std::size_t, std::string_view>> near;
    for (const std::string& candidate : known) {
        const std::size_t longer = std::max(name.size(), candidate.size());
        const std::size_t shorter = std::min(name.size(), candidate.size());
        if (longer - shorter > limit) continue;
        const std::size_t distance = edit_distance(name, candidate);
        if (distance <= limit) near.emplace_back(distance, candidate);
    }
    std::ranges::stable_sort(near, {}, [](const auto& entry) { return entry.first; });
    if (near.size() > count) near.resize(count);
    std::vector<std::string> names;
    for (const auto& entry : near) names.emplace_back(entry.second);
    return names;
}

std::string join(std::span<const std::string> texts, std::string_view separator) {
    std::string joined;
    for (const std::string& text : texts) {
        if (&text != &texts.front()) joined += separator;
        joined += text;
    }
    return joined;
}

}  // namespace fedit
