// tensor/cpu/attention_blocks.h: how attention is cut into tasks and blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fedit/tensor/backend.h"
#include "tensor/cpu/scratch.h"

namespace fedit::cpu {

/// Queries and keys of a block; fixed and counted from the sequence's first row, so that what else
/// is packed changes no bit. Multiples of every tile's rows and every panel's columns.
inline constexpr std::int64_t query_block = 48;
inline constexpr std::int64_t key_block = 128;

/// Queries [query, query + rows) against the keys from `key` on.
struct AttentionBlock {
    std::int64_t query, rows, key;

    /// How many of the block's keys its first `count` rows see at most.
    std::int64_t keys_seen(std::int64_t count) const {
        return std::clamp<std::int64_t>(query + count - key, 0, key_block);
    }
};

/// A sequence and a key/value head with its group of query heads: one task.
struct AttentionTask {
    std::int64_t begin, length, kv_head;
};

inline std::vector<AttentionTask> attention_tasks(const Sequences& sequences,
                                                  const AttentionShape& shape) {
    std::vector<AttentionTask> tasks;
    for (std::int64_t i = 0; i < sequences.count(); ++i) {
        const std::int64_t begin = sequences.begin[static_cast<std::size_t>(i)];
        const std::int64_t length = sequences.begin[static_cast<std::size_t>(i) + 1] - begin;
        if (length == 0) continue;
        for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
            tasks.push_back({begin, length, head});
        }
    }
    return tasks;
}

inline std::int64_t longest(const std::vector<AttentionTask>& tasks) {
    std::int64_t length = 0;
    for (const AttentionTask& task : tasks) length = std::max(length, task.length);
    return length;
}

/// The part of a (tokens x heads head_dim) matrix that a task's head owns.
inline TensorView head_part(TensorView matrix, const AttentionTask& task, std::int64_t head,
                            std::int64_t head_dim) {
    return matrix.row_range(task.begin, task.length).columns(head * head_dim, head_dim);
}

}  // namespace fedit::cpu
