// tensor/cuda/attention_forward.cuh: attention on tensor cores, forward: a block owns 64 queries of
// a head and goes through their keys with the online softmax (FlashAttention-2, arXiv 2307.08691).
#pragma once

#include "tensor/cuda/attention_tiles.cuh"

namespace fedit::cuda {

inline constexpr float log2_e = 1.44269504F, ln_2 = 0.69314718F;

/// Keys of a tile.
inline constexpr int forward_keys = 64;

/// Bytes of a block's shared memory: queries, keys, values.
template <int D>
inline constexpr std::size_t forward_bytes = HeadTile<D>::bytes(own_rows + 2 * forward_keys);

/// The running softmax of the two rows of which a thread holds a quarter each.
struct OnlineSoftmax {
    float top[2] = {-INFINITY, -INFINITY};  ///< the largest score
    float total[2] = {};                    ///< this thread's part of the sum of weights
};

/// Turns scores x (16 x N, not yet scaled) into weights relative to the largest score so far, and
/// gives the factors by which what was summed before shrinks. `distance` is that of element 0's key
/// from its query's own key.
template <int N>
__device__ void to_weights(float (&x)[N / 8][4], float (&shrink)[2], OnlineSoftmax& softmax,
                           int distance, int window, float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float largest = softmax.top[r];
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float& score = x[n][2 * r + i];
                if (!sees(distance + 8 * r - 8 * n - i, window)) score = -INFINITY;
                largest = fmaxf(largest, score);
            }
        }
        largest = fmaxf(largest, shfl_xor(largest, 1));
        largest = fmaxf(largest, shfl_xor(largest, 2));
        // Above a window's first row nothing may be visible yet.
        const float base = largest == -INFINITY ? 0.0F : largest * scale * log2_e;
        shrink[r] = exp2f(softmax.top[r] * scale * log2_e - base);
        softmax.top[r] = largest;
        softmax.total[r] *= shrink[r];
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                float& score = x[n][2 * r + i];
                score = exp2f(score * (scale * log2_e) - base);
                softmax.total[r] += score;
            }
        }
    }
}

/// Grid: tile_numbers(tokens, sequences, own_rows) x heads.
template <int D>
__global__ void __launch_bounds__(HeadTile<D>::threads) attention_kernel(Attention<Bf16> a) {
    constexpr int N = forward_keys;
    auto* const keys = reinterpret_cast<Bf16*>(dynamic_shared());
    Bf16* const values = keys + N * HeadTile<D>::stride;
    Bf16* const queries = values + N * HeadTile<D>::stride;
    const Tile tile = find_tile<own_rows>(a.sequences.begin, a.sequences.count, blockIdx.x);
    if (tile.empty()) return;
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const int head = static_cast<int>(blockIdx.y), group = head / (a.heads / a.kv_heads);
    const WarpPlace place = warp_place();
    load_tile<D>(queries, a.q, head, a.head_dim, tile.first, tile.end, own_rows);

    const std::int64_t own = sequence.own_key(tile.place);  // of the first query
    const std::int64_t end = own + (tile.end - tile.first);
    float sum[HeadTile<D>::columns / 8][4] = {}, shrink[2];
    OnlineSoftmax softmax;
#pragma unroll 1
    for (std::int64_t key = first_key(own, a.window) / N * N; key < end; key += N) {
        const std::int64_t row = sequence.keys + key, rows_end = sequence.keys + end;
        load_tile<D>(keys, a.k, group, a.head_dim, row, rows_end, N);
        load_tile<D>(values, a.v, group, a.head_dim, row, rows_end, N);
        __syncthreads();
        float x[N / 8][4] = {};
        rows_times_rows<D, N>(x, queries + 16 * place.warp * HeadTile<D>::stride, keys);
        to_weights<N>(x, shrink, softmax, static_cast<int>(own - key) + place.row - place.column,
                      a.window, a.scale);
#pragma unroll
        for (int n = 0; n < HeadTile<D>::columns / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sum[n][i] *= shrink[i / 2];
        }
        weights_times_rows<D, N>(sum, x, values + place.group * HeadTile<D>::columns);
        __syncthreads();  // before the tiles are written again
    }

    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float total = softmax.total[r];
        total += shfl_xor(total, 1);
        total += shfl_xor(total, 2);
        factor[r] = 1.0F / total;
        const std::int64_t query = tile.first + place.row + 8 * r;
        if (place.lane % 4 == 0 && place.group == 0 && query < tile.end) {
            a.lse[std::int64_t{head} * a.tokens + query] = softmax.top[r] * a.scale + logf(total);
        }
    }
    store_tile<D>(a.out, head, a.head_dim, tile.first, tile.end, sum, factor);
}

}  // namespace fedit::cuda
