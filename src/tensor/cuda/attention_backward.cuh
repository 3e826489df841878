// tensor/cuda/attention_backward.cuh: attention on tensor cores, backward, in two passes that each
// own the rows they write: equal bits in every run, for 7 products instead of the 5 of one pass
// that adds to dq by atomics.
#pragma once

#include "tensor/cuda/attention_forward.cuh"

namespace fedit::cuda {

/// Whose rows a block owns: it makes dk and dv, adding its group's query heads in order, or dq.
enum class Owner { keys, queries };

/// Rows of a tile of the other side. More would not fit beside own rows of 256 columns on cards
/// with 99 KiB for a block.
template <int D>
inline constexpr int backward_rows = D > 128 ? 16 : 32;

/// Bytes of a block's shared memory: two matrices of own rows, two of the others', lse and delta of
/// the queries among them.
template <int D>
inline constexpr std::size_t backward_bytes = HeadTile<D>::bytes(2 * own_rows +
                                                                 2 * backward_rows<D>) +
                                              2 * own_rows * sizeof(float);

/// Shared memory of a block on cards of compute capability 8.6, 8.9 and 12: the least there is.
inline constexpr std::size_t least_block_memory = 99 << 10;
static_assert(forward_bytes<256> <= least_block_memory);
static_assert(backward_bytes<256> <= least_block_memory);

/// lse (in powers of 2) and delta of `rows` queries; a query that does not exist gets weight 0.
template <int D>
__device__ void load_statistics(float* lse, float* delta, const Attention<Bf16>& a, int head,
                                std::int64_t first, std::int64_t end, int rows) {
    for (int i = static_cast<int>(threadIdx.x); i < rows; i += HeadTile<D>::threads) {
        const std::int64_t place = std::int64_t{head} * a.tokens + first + i;
        const bool exists = first + i < end;
        lse[i] = exists ? a.lse[place] * log2_e : INFINITY;
        delta[i] = exists ? a.delta[place] : 0.0F;
    }
}

/// Scores p and the products dp = dout v^T become weights and the gradients of scores.
template <Owner owner, int N>
__device__ void to_score_gradients(float (&p)[N / 8][4], float (&dp)[N / 8][4], const float* lse,
                                   const float* delta, int distance, int window, float scale) {
    const WarpPlace place = warp_place();
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int own = 8 * (i / 2), other = 8 * n + i % 2;
            const int query = owner == Owner::keys ? other + place.column : own + place.row;
            const int away = owner == Owner::keys ? other - own : own - other;
            const float weight = sees(distance + away, window)
                                     ? exp2f(p[n][i] * (scale * log2_e) - lse[query])
                                     : 0.0F;
            p[n][i] = weight;
            dp[n][i] = weight * (dp[n][i] - delta[query]);
        }
    }
}

/// Grid: tile_numbers(tokens, sequences, own_rows) x heads (kv_heads where keys own). Keys are the
/// queries' rows.
template <int D, Owner owner>
__global__ void __launch_bounds__(HeadTile<D>::threads)
    attention_backward_kernel(Attention<Bf16> a) {
    constexpr int N = backward_rows<D>;
    constexpr bool by_keys = owner == Owner::keys;
    auto* const own0 = reinterpret_cast<Bf16*>(dynamic_shared());  // keys, or queries
    Bf16* const own1 = own0 + own_rows * HeadTile<D>::stride;      // values, or dout
    Bf16* const other0 = own1 + own_rows * HeadTile<D>::stride;    // queries, or keys
    Bf16* const other1 = other0 + N * HeadTile<D>::stride;         // dout, or values
    auto* const lse = reinterpret_cast<float*>(other1 + N * HeadTile<D>::stride);
    float* const delta = lse + own_rows;
    const Tile tile = find_tile<own_rows>(a.sequences.begin, a.sequences.count, blockIdx.x);
    if (tile.empty()) return;
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const std::int64_t rows_end = sequence.queries + sequence.query_count;
    const int ratio = a.heads / a.kv_heads, y = static_cast<int>(blockIdx.y);
    const int group = by_keys ? y : y / ratio;
    const WarpPlace place = warp_place();
    const std::int64_t last = tile.place + (tile.end - tile.first) - 1;
    const std::int64_t begin = by_keys ? tile.place : first_key(tile.place, a.window);
    std::int64_t end = by_keys ? sequence.query_count : last + 1;
    if (by_keys && last + a.window < end) end = last + a.window;

    load_tile<D>(own0, by_keys ? a.k : a.q, by_keys ? group : y, a.head_dim, tile.first, tile.end,
                 own_rows);
    load_tile<D>(own1, by_keys ? a.v : a.dout, by_keys ? group : y, a.head_dim, tile.first,
                 tile.end, own_rows);
    if (!by_keys) load_statistics<D>(lse, delta, a, y, tile.first, tile.end, own_rows);
    float sum0[HeadTile<D>::columns / 8][4] = {};
    float sum1[by_keys ? HeadTile<D>::columns / 8 : 1][4] = {};
#pragma unroll 1
    for (int h = 0; h < (by_keys ? ratio : 1); ++h) {
        const int head = by_keys ? group * ratio + h : y;
#pragma unroll 1
        for (std::int64_t at = begin / N * N; at < end; at += N) {
            const std::int64_t row = sequence.queries + at;
            load_tile<D>(other0, by_keys ? a.q : a.k, by_keys ? head : group, a.head_dim, row,
                         rows_end, N);
            load_tile<D>(other1, by_keys ? a.dout : a.v, by_keys ? head : group, a.head_dim, row,
                         rows_end, N);
            if (by_keys) load_statistics<D>(lse, delta, a, head, row, rows_end, N);
            __syncthreads();
            float p[N / 8][4] = {}, dp[N / 8][4] = {};
            rows_times_rows<D, N>(p, own0 + 16 * place.warp * HeadTile<D>::stride, other0);
            rows_times_rows<D, N>(dp, own1 + 16 * place.warp * HeadTile<D>::stride, other1);
            const int between = static_cast<int>(tile.place - at) + place.row - place.column;
            to_score_gradients<owner, N>(p, dp, lse, delta, by_keys ? -between : between, a.window,
                                         a.scale);
            weights_times_rows<D, N>(sum0, dp, other0 + place.group * HeadTile<D>::columns);
            if constexpr (by_keys) {
                weights_times_rows<D, N>(sum1, p, other1 + place.group * HeadTile<D>::columns);
            }
            __syncthreads();  // before the tiles are written again
        }
    }
    const float scales[2] = {a.scale, a.scale};
    store_tile<D>(by_keys ? a.dk : a.dq, by_keys ? group : y, a.head_dim, tile.first, tile.end,
                  sum0, scales);
    if constexpr (by_keys) {
        const float ones[2] = {1, 1};
        store_tile<D>(a.dv, group, a.head_dim, tile.first, tile.end, sum1, ones);
    }
}

}  // namespace fedit::cuda
