// tensor/cuda/token_groups.h: the rows of a batch by token, so that each row of an embedding's
// gradient has one owner that adds in order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedit::cuda {

/// token[g] stands in the rows order[begin[g]] .. order[begin[g + 1] - 1], ascending.
struct TokenGroups {
    std::vector<std::int32_t> token;  ///< ascending, each once
    std::vector<std::int64_t> begin;  ///< one more than tokens
    std::vector<std::int64_t> order;  ///< a row's number for each row
};
TokenGroups group_tokens(std::span<const std::int32_t> tokens);

/// The same in a GPU's memory.
struct DeviceTokenGroups {
    std::int64_t count = 0;  ///< of tokens
    const std::int32_t* token = nullptr;
    const std::int64_t* begin = nullptr;
    const std::int64_t* order = nullptr;
};

}  // namespace fedit::cuda
