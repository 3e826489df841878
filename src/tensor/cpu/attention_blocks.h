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

/// Queries [query, query + rows) against the keys from `key` on. Query 0 stands at key `position`.
struct AttentionBlock {
    std::int64_t query, rows, key;
    std::int64_t position, window;

    /// The block's keys that row i sees: [first_key(i), keys_end(i)).
    std::int64_t keys_end(std::int64_t i) const {
        return std::clamp<std::int64_t>(position + query + i + 1 - key, 0, key_block);
    }
    std::int64_t first_key(std::int64_t i) const {
        if (window == 0) return 0;
        return std::clamp<std::int64_t>(position + query + i + 1 - window - key, 0, key_block);
    }
    /// The block's rows that see one of its keys [begin, end): [first_row(begin), rows_end(end)).
    std::int64_t first_row(std::int64_t begin) const {
        return std::clamp<std::int64_t>(key + begin - position - query, 0, rows);
    }
    std::int64_t rows_end(std::int64_t end) const {
        if (window == 0) return rows;
        return std::clamp<std::int64_t>(key + end - 1 + window - position - query, 0, rows);
    }
};

/// The first of the key blocks that queries from `position` on see.
inline std::int64_t first_key_block(std::int64_t position, std::int64_t window) {
    if (window == 0) return 0;
    return std::max<std::int64_t>(0, position + 1 - window) / key_block * key_block;
}

/// A sequence and a key/value head with its group of query heads: one task. Keys that no query
/// sees are left out, in whole blocks.
struct AttentionTask {
    std::int64_t begin, length;  ///< rows of the queries
    std::int64_t kv_begin, kv_length;
    std::int64_t kv_head;

    /// Query 0's place among the keys.
    std::int64_t position() const { return kv_length - length; }
};

inline std::vector<AttentionTask> attention_tasks(const Sequences& sequences,
                                                  const AttentionShape& shape) {
    std::vector<AttentionTask> tasks;
    for (std::int64_t i = 0; i < sequences.count(); ++i) {
        const std::int64_t begin = sequences.begin[static_cast<std::size_t>(i)];
        const std::int64_t length = sequences.begin[static_cast<std::size_t>(i) + 1] - begin;
        if (length == 0) continue;
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t kv_begin = sequences.own_keys() ? begin : sequences.kv_begin[at];
        const std::int64_t kv_end = sequences.own_keys() ? begin + length : sequences.kv_end[at];
        const std::int64_t unseen = first_key_block(kv_end - kv_begin - length, shape.window);
        for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
            tasks.push_back({begin, length, kv_begin + unseen, kv_end - kv_begin - unseen, head});
        }
    }
    return tasks;
}

/// The most keys of a task.
inline std::int64_t most_keys(const std::vector<AttentionTask>& tasks) {
    std::int64_t length = 0;
    for (const AttentionTask& task : tasks) length = std::max(length, task.kv_length);
    return length;
}

/// The part of a (tokens x heads head_dim) matrix that a task's queries own in one head.
inline TensorView query_part(TensorView matrix, const AttentionTask& task, std::int64_t head,
                             std::int64_t head_dim) {
    return matrix.row_range(task.begin, task.length).columns(head * head_dim, head_dim);
}

/// The same of a task's keys or values.
inline TensorView key_part(TensorView matrix, const AttentionTask& task, std::int64_t head_dim) {
    return matrix.row_range(task.kv_begin, task.kv_length)
        .columns(task.kv_head * head_dim, head_dim);
}

}  // namespace fedit::cpu
