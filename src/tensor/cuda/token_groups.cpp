// tensor/cuda/token_groups.cpp: sorts the rows of a batch by token.
#include "tensor/cuda/token_groups.h"

#include <algorithm>
#include <numeric>

namespace fedit::cuda {

TokenGroups group_tokens(std::span<const std::int32_t> tokens) {
    TokenGroups groups;
    groups.order.resize(tokens.size());
    std::iota(groups.order.begin(), groups.order.end(), 0);
    const auto token_of = [&](std::int64_t t) { return tokens[static_cast<std::size_t>(t)]; };
    std::ranges::stable_sort(groups.order, {}, token_of);
    for (std::size_t i = 0; i < groups.order.size(); ++i) {
        const std::int32_t token = token_of(groups.order[i]);
        if (!groups.token.empty() && groups.token.back() == token) continue;
        groups.token.push_back(token);
        groups.begin.push_back(static_cast<std::int64_t>(i));
    }
    groups.begin.push_back(static_cast<std::int64_t>(tokens.size()));
    return groups;
}

}  // namespace fedit::cuda
