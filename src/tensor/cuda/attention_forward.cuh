// tensor/cuda/attention_forward.cuh: attention on tensor cores, forward: a block owns 128 queries
// of a head and goes through their keys with the online softmax (FlashAttention-2, arXiv
// 2307.08691). Keys arrive while weights meet values, values while queries meet keys.
#pragma once

#include "tensor/cuda/attention_tiles.cuh"

namespace fedit::cuda {

/// Sizes of a block.
template <class P>
struct ForwardTile {
    static constexpr int tiles = P::in_background ? 1 : 2;  ///< of 16 queries, a warp's
    static constexpr int queries = block_rows<P, tiles>;
    static constexpr int keys = P::depth > 128 ? 32 : 64;                    ///< of a tile
    static constexpr std::size_t bytes = tile_bytes<P>(2 * keys + queries);  ///< shared
};

/// The running softmax of the two rows of which a thread holds a quarter each.
struct OnlineSoftmax {
    float top[2] = {-INFINITY, -INFINITY};  ///< the largest score
    float total[2] = {};                    ///< this thread's part of the sum of weights
};

/// Makes scores (16 x N) of keys that a query does not see -Inf. `distance` is that of element 0's
/// key from its query's own key.
template <int N>
__device__ void hide(float (&x)[N / 8][4], int distance, int window) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (!sees(distance + 8 * (i / 2) - 8 * n - i % 2, window)) x[n][i] = -INFINITY;
        }
    }
}

/// Turns scores x (16 x N, not yet scaled) into weights relative to the largest score so far, and
/// shrinks what was summed before. scale: in powers of 2.
template <int N, int C>
__device__ void softmax_step(float (&x)[N / 8][4], float (&sum)[C][4], OnlineSoftmax& softmax,
                             float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float largest = softmax.top[r];
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
            largest = fmaxf(largest, fmaxf(x[n][2 * r], x[n][2 * r + 1]));
        }
        largest = fmaxf(largest, shfl_xor(largest, 1));
        largest = fmaxf(largest, shfl_xor(largest, 2));
        // Above a window's first row nothing may be visible yet.
        const float base = largest == -INFINITY ? 0.0F : largest * scale;
        const float shrink = exp2_approximate(softmax.top[r] * scale - base);
#pragma unroll
        for (int n = 0; n < C; ++n) sum[n][2 * r] *= shrink, sum[n][2 * r + 1] *= shrink;
        softmax.top[r] = largest;
        float total = softmax.total[r] * shrink;
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; ++i) {
                x[n][i] = exp2_approximate(x[n][i] * scale - base);
            }
            total += x[n][2 * r] + x[n][2 * r + 1];
        }
        softmax.total[r] = total;
    }
}

/// Rows of the other side that some of a warp's rows meet, [begin, end), and those that all of them
/// meet, [first, last].
struct Reach {
    int begin, end, first, last;

    __device__ bool meets(int row, int count) const { return row < end && row + count > begin; }
    __device__ bool whole(int row, int count) const {
        return row >= first && row + count - 1 <= last;
    }
};

/// The keys of `count` queries, at most `most`, whose first has the own key `own`.
__device__ inline Reach keys_of(int own, int count, int most, int window) {
    if (count <= 0) return {0, 0, 1, 0};
    const auto seen_by_all = static_cast<int>(first_key(own + most - 1, window));
    return {static_cast<int>(first_key(own, window)), own + min(count, most), seen_by_all, own};
}

/// Grid: tile_numbers(tokens, sequences, ForwardTile::queries) x heads. Later tiles, which have
/// more keys, go first.
template <class P>
__global__ void __launch_bounds__(P::threads) attention_kernel(Attention<Bf16> a) {
    using Size = ForwardTile<P>;
    constexpr int N = Size::keys, M = Size::tiles, unit_rows = P::template unit_rows<M>;
    auto* const queries = reinterpret_cast<Bf16*>(dynamic_shared());
    Bf16* const keys = queries + Size::queries * P::row_elements;
    Bf16* const values = keys + N * P::row_elements;
    const Tile tile =
        find_tile<Size::queries>(a.sequences.begin, a.sequences.count, gridDim.x - 1 - blockIdx.x);
    if (tile.empty()) return;
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const int head = static_cast<int>(blockIdx.y), group = head / (a.heads / a.kv_heads);
    const WarpPlace place = warp_place<P, M>();

    const std::int64_t first = uniform(tile.first);
    const int own = uniform(static_cast<int>(sequence.own_key(tile.place)));  // of the first query
    const int count = uniform(static_cast<int>(tile.end - tile.first)), end = own + count;
    const int unit = place.rows / unit_rows * unit_rows;
    const Reach seen = keys_of(own + unit, count - unit, unit_rows, a.window);
    int key = static_cast<int>(first_key(own, a.window)) / N * N;
    start_tile<P, Size::queries>(queries, a.q, head, a.head_dim, first, count);
    TileCopies<P, N> next_keys(a.k, group, a.head_dim, sequence.keys + key);
    TileCopies<P, N> next_values(a.v, group, a.head_dim, sequence.keys + key);
    next_keys.start(keys, a.k.stride, end - key, a.head_dim);

    HeadSum<P, M> sum = {};
    OnlineSoftmax softmax[M];
#pragma unroll 1
    for (; key < end; key += N) {
        P::wait_for_tiles();
        __syncthreads();  // the keys are here, and the values before have been used
        next_values.start(values, a.v.stride, end - key, a.head_dim);
        const bool busy = seen.meets(key, N);
        Weights<M, N> weights;
        if (busy) {
            float x[M][N / 8][4];
            P::template rows_times_rows<N, M>(x, queries, place, keys);
            P::template wait<0>(x);
#pragma unroll
            for (int m = 0; m < M; ++m) {
                if (!seen.whole(key, N)) {
                    hide<N>(x[m], own - key + place.row + 16 * m - place.column, a.window);
                }
                softmax_step<N>(x[m], sum[m], softmax[m], a.scale * log2_e);
                to_weights<N>(weights[m], x[m]);
            }
        }
        P::wait_for_tiles();
        __syncthreads();  // the values are here, and the keys have been used
        if (key + N < end) next_keys.start(keys, a.k.stride, end - key - N, a.head_dim);
        if (busy) {
            P::template weights_times_rows<N, M>(sum, weights, place, values);
            P::template wait<0>(sum);
        }
    }

    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float total = softmax[m].total[r];
            total += shfl_xor(total, 1);
            total += shfl_xor(total, 2);
            factor[m][r] = 1.0F / total;
            const int query = place.row + 16 * m + 8 * r;
            if (place.lane % 4 == 0 && place.group == 0 && query < count) {
                a.lse[std::int64_t{head} * a.tokens + first + query] =
                    softmax[m].top[r] * a.scale + logf(total);
            }
        }
    }
    // Behind the last barrier nobody reads queries.
    store_sums<P, M>(queries, a.out, head, a.head_dim, first, count, sum, factor);
}

}  // namespace fedit::cuda
