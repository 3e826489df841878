// tensor/cuda/attention_backward.cuh: attention on tensor cores, backward, in two passes that each
// own the rows they write: equal bits in every run, for 7 products instead of the 5 of one pass
// that adds to dq by atomics.
#pragma once

#include "tensor/cuda/attention_forward.cuh"

namespace fedit::cuda {

/// Whose rows a block owns: it makes dk and dv, adding its group's query heads in order, or dq.
enum class Owner { keys, queries };

/// Sizes of a block. Registers allow a warp of queries, which holds one sum, 32 rows, but a warp of
/// keys only 16. Heads of 256 columns have no room for a second stage on cards with 99 KiB for a
/// block.
template <class P, Owner owner>
struct BackwardTile {
    static constexpr bool by_keys = owner == Owner::keys, wide = P::depth > 128;
    static constexpr int tiles = by_keys || wide || P::in_background ? 1 : 2;  ///< a warp's
    static constexpr int own = block_rows<P, tiles>;
    /// Rows of the other side.
    static constexpr int other = wide ? 16 : by_keys || P::in_background ? 64 : 32;
    static constexpr int stages = wide ? 1 : 2;  ///< the next rows arrive meanwhile
    /// Two matrices of own rows and, a stage, two of the others'; lse and delta of theirs.
    static constexpr std::size_t bytes = tile_bytes<P>(2 * own + 2 * stages * other) +
                                         (by_keys ? 2 * stages * other * sizeof(float) : 0);
};

/// The queries of one sequence's `all` that see some of `count` keys, at most `most`, from `key`
/// on.
__device__ inline Reach queries_of(int key, int count, int most, int all, int window) {
    if (count <= 0) return {0, 0, 1, 0};
    const int bottom = key + min(count, most) - 1;
    return {key, window < all - bottom ? bottom + window : all, key + most - 1,
            window < INT_MAX - key ? key + window - 1 : INT_MAX};
}

/// The tile of the other side's rows that a block meets: it goes through the keys of its head, or
/// through the queries of each head of its group.
struct OtherTile {
    int head, at;          ///< `at` counts from the sequence's first row
    int begin, end, rows;  ///< where heads begin and end

    __device__ void advance() {
        at += rows;
        if (at < end) return;
        at = begin;
        ++head;
    }
};

/// What is known of a query from the forward pass: lse in powers of 2, delta.
struct QueryStatistics {
    float lse, delta;
};

/// Turns scores p into weights. query(m, n, i): the statistics of an element's query. `distance`:
/// of element 0's key from its query's own. Unless `whole`, it matters who sees whom.
template <bool by_keys, int M, int N, class Query>
__device__ void scores_to_weights(float (&p)[M][N / 8][4], const Query& query, bool whole,
                                  int distance, int window, float scale) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int own = 16 * m + 8 * (i / 2), other = 8 * n + i % 2;
                const int away = by_keys ? other - own : own - other;
                p[m][n][i] = exp2_approximate(p[m][n][i] * scale - query(m, n, i).lse);
                if (!whole && !sees(distance + away, window)) p[m][n][i] = 0;
            }
        }
    }
}

/// Turns the products dp = dout v^T into gradients of scores.
template <int M, int N, class Query>
__device__ void to_score_gradients(float (&dp)[M][N / 8][4], const float (&weights)[M][N / 8][4],
                                   const Query& query) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                dp[m][n][i] = weights[m][n][i] * (dp[m][n][i] - query(m, n, i).delta);
            }
        }
    }
}

/// The other side's rows in shared memory: queries and dout with their statistics, or keys and
/// values. A query that does not exist has zeros everywhere, and so adds nothing.
template <class P, Owner owner>
struct OtherRows {
    using Size = BackwardTile<P, owner>;
    Bf16 *first, *second;
    float* statistics;  ///< lse, then delta

    __device__ OtherRows(Bf16* stages, int stage) {
        constexpr int matrix = Size::other * P::row_elements;
        first = stages + 2 * matrix * stage;
        second = first + matrix;
        statistics =
            reinterpret_cast<float*>(stages + 2 * matrix * Size::stages) + 2 * Size::other * stage;
    }

    __device__ void start(const Attention<Bf16>& a, const Sequence& sequence,
                          const OtherTile& tile) const {
        constexpr int N = Size::other;
        const std::int64_t row = sequence.queries + tile.at;
        const int count = static_cast<int>(sequence.query_count) - tile.at;
        start_tile<P, N>(first, Size::by_keys ? a.q : a.k, tile.head, a.head_dim, row, count);
        start_tile<P, N>(second, Size::by_keys ? a.dout : a.v, tile.head, a.head_dim, row, count);
        const int i = static_cast<int>(threadIdx.x);
        if (!Size::by_keys || i >= 2 * N) return;
        const float* const from = i < N ? a.lse : a.delta;
        start_copy4(statistics + i, from + std::int64_t{tile.head} * a.tokens + row + i % N,
                    i % N < count);
    }
};

/// Of the rows of a thread: those of a query that does not exist are not used.
template <class P, int M>
__device__ void load_statistics(QueryStatistics (&own)[M][2], const Attention<Bf16>& a, int head,
                                const Tile& tile) {
    const WarpPlace place = warp_place<P, M>();
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const std::int64_t row = tile.first + place.row + 16 * m + 8 * r;
            if (row >= tile.end) continue;
            const std::int64_t at = std::int64_t{head} * a.tokens + row;
            own[m][r] = {a.lse[at] * log2_e, a.delta[at]};
        }
    }
}

/// One tile's share of a warp's sums. `start_next` is called once products are on their way.
template <class P, Owner owner, class Query, class StartNext>
__device__ void add_gradients(HeadSum<P, BackwardTile<P, owner>::tiles>& sum0,
                              HeadSum<P, BackwardTile<P, owner>::tiles>& sum1, const Bf16* own0,
                              const Bf16* own1, const WarpPlace& place,
                              const OtherRows<P, owner>& other, const Query& query, bool whole,
                              int distance, const Attention<Bf16>& a, const StartNext& start_next) {
    using Size = BackwardTile<P, owner>;
    constexpr int N = Size::other, M = Size::tiles;
    constexpr bool early = Size::by_keys && P::in_background;
    float p[M][N / 8][4], dp[M][N / 8][4];
    P::template rows_times_rows<N, M>(p, own0, place, other.first);
    P::template rows_times_rows<N, M>(dp, own1, place, other.second);
    if constexpr (P::in_background) start_next();
    P::template wait<1>(p);
    scores_to_weights<Size::by_keys, M, N>(p, query, whole, distance, a.window, a.scale * log2_e);
    Weights<M, N> weights, gradients;
#pragma unroll
    for (int m = 0; m < M; ++m) to_weights<N>(weights[m], p[m]);
    if constexpr (early) P::template weights_times_rows<N, M>(sum1, weights, place, other.second);
    P::template wait<early ? 1 : 0>(dp);
    to_score_gradients<M, N>(dp, p, query);
#pragma unroll
    for (int m = 0; m < M; ++m) to_weights<N>(gradients[m], dp[m]);
    P::template weights_times_rows<N, M>(sum0, gradients, place, other.first);
    if constexpr (Size::by_keys && !early) {
        P::template weights_times_rows<N, M>(sum1, weights, place, other.second);
    }
    P::template wait<0>(sum0);
    if constexpr (early) P::template wait<0>(sum1);
}

/// Turns the gradients of whole heads back, in rows from `first` on, the block's first, of which
/// `count` exist. A pair's columns lie D / 2 apart, in one thread.
template <class P, int M>
__device__ void turn_back(HeadSum<P, M>& sum, const DeviceRotary& rotary, std::int64_t first,
                          int count) {
    constexpr int D = P::depth, half = D / 2;
    const WarpPlace place = warp_place<P, M>();
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = place.row + 16 * m + 8 * r;
            if (row >= count) continue;
            const float* const angles =
                rotary.table + std::int64_t{rotary.positions[first + row]} * D + place.column;
#pragma unroll
            for (int n = 0; n < half / 8; ++n) {
                float cosine[2], sine[2];
                load8(cosine, angles + 8 * n);
                load8(sine, angles + half + 8 * n);
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    float& low = sum[m][n][2 * r + i];
                    float& high = sum[m][n + half / 8][2 * r + i];
                    const float x = low;
                    low = x * cosine[i] + high * sine[i];
                    high = high * cosine[i] - x * sine[i];
                }
            }
        }
    }
}

/// Writes dk and dv, or dq, through the block's own rows: `count` from `first` on.
template <class P, Owner owner>
__device__ void store_gradients(const Attention<Bf16>& a, int head, std::int64_t first, int count,
                                Bf16* own0, Bf16* own1,
                                HeadSum<P, BackwardTile<P, owner>::tiles>& sum0,
                                const HeadSum<P, BackwardTile<P, owner>::tiles>& sum1) {
    constexpr bool by_keys = owner == Owner::keys, whole_heads = P::columns == P::depth;
    constexpr int M = BackwardTile<P, owner>::tiles;
    // Only this unit still reads its rows, or groups that share them have met behind the last turn.
    static_assert(whole_heads || BackwardTile<P, owner>::stages == 1);
    P::wait_for_unit(warp_place<P, M>());
    float factor[M][2];
    if constexpr (by_keys) {
#pragma unroll
        for (int m = 0; m < M; ++m) factor[m][0] = factor[m][1] = 1;
        store_sums<P, M>(own1, a.dv, head, a.head_dim, first, count, sum1, factor);
    }
    if constexpr (whole_heads) {
        if (a.rotary.table != nullptr) turn_back<P, M>(sum0, a.rotary, first, count);
    }
#pragma unroll
    for (int m = 0; m < M; ++m) factor[m][0] = factor[m][1] = a.scale;
    store_sums<P, M>(own0, by_keys ? a.dk : a.dq, head, a.head_dim, first, count, sum0, factor);
}

/// Grid: tile_numbers(tokens, sequences, BackwardTile::own) x heads (kv_heads where keys own). Keys
/// are the queries' rows. The tiles that meet most go first.
template <class P, Owner owner>
__global__ void __launch_bounds__(P::threads) attention_backward_kernel(Attention<Bf16> a) {
    using Size = BackwardTile<P, owner>;
    constexpr bool by_keys = Size::by_keys;
    constexpr int N = Size::other, M = Size::tiles, unit_rows = P::template unit_rows<M>;
    auto* const own0 = reinterpret_cast<Bf16*>(dynamic_shared());  // keys, or queries
    Bf16* const own1 = own0 + Size::own * P::row_elements;         // values, or dout
    Bf16* const stages = own1 + Size::own * P::row_elements;
    const Tile tile = find_tile<Size::own>(a.sequences.begin, a.sequences.count,
                                           by_keys ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
    if (tile.empty()) return;
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const int ratio = a.heads / a.kv_heads, y = static_cast<int>(blockIdx.y);
    const int first = uniform(static_cast<int>(tile.place));
    const int count = uniform(static_cast<int>(tile.end - tile.first));
    const int all = uniform(static_cast<int>(sequence.query_count));
    const WarpPlace place = warp_place<P, M>();
    const int unit = place.rows / unit_rows * unit_rows;
    const auto reach = [&](int from, int rows, int most) {
        return by_keys ? queries_of(from, rows, most, all, a.window)
                       : keys_of(from, rows, most, a.window);
    };
    const Reach block = reach(first, count, Size::own);
    const Reach met = reach(first + unit, count - unit, unit_rows);
    const int begin = block.begin / N * N;
    const int turns = (block.end - begin + N - 1) / N * (by_keys ? ratio : 1);
    OtherTile next{by_keys ? y * ratio : y / ratio, begin, begin, block.end, N};

    start_tile<P, Size::own>(own0, by_keys ? a.k : a.q, y, a.head_dim, tile.first, count);
    start_tile<P, Size::own>(own1, by_keys ? a.v : a.dout, y, a.head_dim, tile.first, count);
    OtherRows<P, owner>(stages, 0).start(a, sequence, next);
    QueryStatistics own[M][2] = {};
    if constexpr (!by_keys) load_statistics<P, M>(own, a, y, tile);
    HeadSum<P, M> sum0 = {}, sum1 = {};
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
        P::wait_for_tiles();
        __syncthreads();  // this stage is here, and the other one has been used
        const int at = next.at;
        const OtherRows<P, owner> now(stages, turn % Size::stages);
        next.advance();
        const auto start_next = [&] {
            if (Size::stages == 1 || turn + 1 == turns) return;
            OtherRows<P, owner>(stages, (turn + 1) % Size::stages).start(a, sequence, next);
        };
        const bool busy = met.meets(at, N);
        // To start copies takes instructions: products in the background come first.
        if (!P::in_background || !busy) start_next();
        if (busy) {
            const auto query = [&](int m, int n, int i) -> QueryStatistics {
                if (!by_keys) return own[m][i / 2];
                const float* const known = now.statistics + 8 * n + place.column + i % 2;
                return {known[0] * log2_e, known[N]};
            };
            const int between = first + place.row - at - place.column;
            add_gradients<P, owner>(sum0, sum1, own0, own1, place, now, query, met.whole(at, N),
                                    by_keys ? -between : between, a, start_next);
        }
        if constexpr (Size::stages == 1) {
            __syncthreads();  // the stage has been used
            if (turn + 1 < turns) now.start(a, sequence, next);
        }
    }
    store_gradients<P, owner>(a, y, sequence.queries + first, count, own0, own1, sum0, sum1);
}

}  // namespace fedit::cuda
