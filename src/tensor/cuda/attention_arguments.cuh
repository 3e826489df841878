// tensor/cuda/attention_arguments.cuh: what all attention kernels are given, and which queries see
// which keys.
#pragma once

#include <climits>
#include <cstdint>

#include "tensor/cuda/rotary.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/sequences.h"
#include "tensor/cuda/tiles.cuh"

namespace fedit::cuda {

/// Element (token, head, i) of q is column head * head_dim + i of row `token`; k and v likewise
/// with kv_heads. Null where a kernel has no use for it.
template <class T>
struct Attention {
    Rows<T> q, k, v, out, dout, dq, dk, dv;
    float* lse;    ///< heads x tokens
    float* delta;  ///< heads x tokens: the sum over a head's columns of dout out
    DeviceSequences sequences;
    DeviceRotary rotary;  ///< of dq and dk, if the kernels that write them turn them back
    std::int64_t tokens;
    int heads, kv_heads, head_dim;
    int window;   ///< a query sees this many keys, its own the last; INT_MAX: every one
    float scale;  ///< of a score: 1 / sqrt(head_dim)
};

/// One sequence: its rows of queries and of keys.
struct Sequence {
    std::int64_t queries, query_count, keys, key_count;

    /// The key of query i; both count from their sequence's first row.
    __device__ std::int64_t own_key(std::int64_t query) const {
        return query + key_count - query_count;
    }
};

__device__ inline Sequence sequence_at(const DeviceSequences& s, std::int64_t i) {
    const std::int64_t begin = s.begin[i], count = s.begin[i + 1] - begin;
    if (s.kv_begin == nullptr) return {begin, count, begin, count};
    return {begin, count, s.kv_begin[i], s.kv_end[i] - s.kv_begin[i]};
}

/// The first key that a query sees whose own key is `own`.
__device__ inline std::int64_t first_key(std::int64_t own, int window) {
    return own >= window ? own - window + 1 : 0;
}

/// Whether a query sees a key that lies `distance` before its own.
__device__ inline bool sees(int distance, int window) {
    return static_cast<unsigned>(distance) < static_cast<unsigned>(window);
}

}  // namespace fedit::cuda
