// tensor/cuda/attention_plain.cuh: attention with fp32 arithmetic, a warp for each row it writes;
// and delta, which both ways of the backward need.
#pragma once

#include "tensor/cuda/attention_backward.cuh"

namespace fedit::cuda {

/// A warp's lanes share a head's columns: lane l has l, l + 32, ...
inline constexpr int head_dim_limit = 256, lane_columns = head_dim_limit / 32;
inline constexpr int plain_threads = 128, plain_warps = plain_threads / 32;

__device__ inline float warp_max(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, shfl_xor(x, mask));
    return x;
}

template <class T>
__device__ float dot(const T* x, const T* y, int count) {
    float sum = 0;
    for (int i = 0; i < count; ++i) sum += to_float(x[i]) * to_float(y[i]);
    return sum;
}

/// sum += weight row, of this lane's columns.
template <class T>
__device__ void add_row(float (&sum)[lane_columns], float weight, const T* row, int head_dim) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int c = 0; c < lane_columns; ++c) {
        const int column = lane + 32 * c;
        if (column < head_dim) sum[c] += weight * to_float(row[column]);
    }
}

template <class T>
__device__ void store_row(T* row, const float (&sum)[lane_columns], float factor, int head_dim) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int c = 0; c < lane_columns; ++c) {
        const float value[1] = {sum[c] * factor};
        if (lane + 32 * c < head_dim) store(row + lane + 32 * c, value);
    }
}

/// The row of this warp; grid: ceil(rows / plain_warps) x heads.
__device__ inline std::int64_t warp_row() {
    return std::int64_t{blockIdx.x} * plain_warps + threadIdx.x / 32;
}

template <class T>
__global__ void plain_attention_kernel(Attention<T> a) {
    const std::int64_t row = warp_row();
    if (row >= a.tokens) return;
    const int head = static_cast<int>(blockIdx.y), d = a.head_dim;
    const int q_column = head * d, k_column = head / (a.heads / a.kv_heads) * d;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const Tile tile = find_row(a.sequences.begin, a.sequences.count, row);
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const std::int64_t own = sequence.own_key(tile.place);
    float sum[lane_columns] = {}, top = -INFINITY, total = 0;
    for (std::int64_t at = first_key(own, a.window); at <= own; at += 32) {
        const std::int64_t key = at + lane;
        const float score =
            key <= own
                ? dot(a.q.at(row, q_column), a.k.at(sequence.keys + key, k_column), d) * a.scale
                : -INFINITY;
        const float largest = fmaxf(top, warp_max(score)), shrink = expf(top - largest);
        const float weight = expf(score - largest);
        top = largest;
        total = total * shrink + warp_sum(weight);
        for (float& x : sum) x *= shrink;
        for (int i = 0; i < 32 && at + i <= own; ++i) {
            add_row(sum, shfl(weight, i), a.v.at(sequence.keys + at + i, k_column), d);
        }
    }
    store_row(a.out.at(row, q_column), sum, 1.0F / total, d);
    if (lane == 0) a.lse[std::int64_t{head} * a.tokens + row] = top + logf(total);
}

template <class T, Owner owner>
__global__ void plain_attention_backward_kernel(Attention<T> a) {
    constexpr bool by_keys = owner == Owner::keys;
    const std::int64_t row = warp_row();
    if (row >= a.tokens) return;
    const int d = a.head_dim, ratio = a.heads / a.kv_heads, y = static_cast<int>(blockIdx.y);
    const int group = by_keys ? y : y / ratio, lane = static_cast<int>(threadIdx.x) % 32;
    const Tile tile = find_row(a.sequences.begin, a.sequences.count, row);
    const std::int64_t first = tile.first - tile.place;  // of the sequence
    const std::int64_t length = a.sequences.begin[tile.segment + 1] - first;
    const std::int64_t begin = by_keys ? tile.place : first_key(tile.place, a.window);
    std::int64_t end = by_keys ? length : tile.place + 1;
    if (by_keys && tile.place + a.window < end) end = tile.place + a.window;
    float sum0[lane_columns] = {}, sum1[lane_columns] = {};
    for (int h = 0; h < (by_keys ? ratio : 1); ++h) {
        const int head = by_keys ? group * ratio + h : y;
        const float* lse = a.lse + std::int64_t{head} * a.tokens;
        const float* delta = a.delta + std::int64_t{head} * a.tokens;
        for (std::int64_t at = begin; at < end; at += 32) {
            float weight = 0, gradient = 0;
            if (at + lane < end) {
                const std::int64_t other = first + at + lane;
                const std::int64_t query = by_keys ? other : row, key = by_keys ? row : other;
                const float score = dot(a.q.at(query, head * d), a.k.at(key, group * d), d);
                weight = expf(score * a.scale - lse[query]);
                gradient = weight * (dot(a.dout.at(query, head * d), a.v.at(key, group * d), d) -
                                     delta[query]);
            }
            for (int i = 0; i < 32 && at + i < end; ++i) {
                const std::int64_t other = first + at + i;
                add_row(sum0, shfl(gradient, i),
                        by_keys ? a.q.at(other, head * d) : a.k.at(other, group * d), d);
                if constexpr (by_keys) {
                    add_row(sum1, shfl(weight, i), a.dout.at(other, head * d), d);
                }
            }
        }
    }
    store_row(by_keys ? a.dk.at(row, group * d) : a.dq.at(row, y * d), sum0, a.scale, d);
    if constexpr (by_keys) store_row(a.dv.at(row, group * d), sum1, 1.0F, d);
}

/// delta = the sum over a head's columns of dout out, N at a time.
template <class T, int N>
__global__ void attention_delta_kernel(Attention<T> a) {
    const std::int64_t row = warp_row();
    if (row >= a.tokens) return;
    const int head = static_cast<int>(blockIdx.y), lane = static_cast<int>(threadIdx.x) % 32;
    const T* dout = a.dout.at(row, std::int64_t{head} * a.head_dim);
    const T* out = a.out.at(row, std::int64_t{head} * a.head_dim);
    float sum = 0;
    for (int i = N * lane; i < a.head_dim; i += N * 32) {
        float x[N], y[N];
        load(x, dout + i);
        load(y, out + i);
#pragma unroll
        for (int j = 0; j < N; ++j) sum += x[j] * y[j];
    }
    sum = warp_sum(sum);
    if (lane == 0) a.delta[std::int64_t{head} * a.tokens + row] = sum;
}

}  // namespace fedit::cuda
