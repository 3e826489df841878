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
template <int D, Owner owner>
struct BackwardTile {
    static constexpr bool by_keys = owner == Owner::keys;
    static constexpr int tiles = by_keys || D > 128 ? 1 : 2;  ///< of 16 rows, a warp's
    static constexpr int own = 64 * tiles;
    static constexpr int other = D > 128 ? 16 : by_keys ? 64 : 32;  ///< rows of the other side
    static constexpr int stages = D > 128 ? 1 : 2;  ///< the next rows arrive meanwhile
    /// Two matrices of own rows and, a stage, two of the others'; lse and delta of theirs.
    static constexpr std::size_t bytes = HeadTile<D>::bytes(2 * own + 2 * stages * other) +
                                         (by_keys ? 2 * stages * other * sizeof(float) : 0);
};

static_assert(forward_bytes<256> <= least_block_memory);
static_assert(BackwardTile<256, Owner::keys>::bytes <= least_block_memory);
static_assert(BackwardTile<256, Owner::queries>::bytes <= least_block_memory);

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

/// Scores p and the products dp = dout v^T give weights and the gradients of scores. query(m, n,
/// i): the statistics of an element's query. `distance`: of element 0's key from its query's own.
/// Unless `whole`, it matters who sees whom.
template <bool by_keys, int M, int N, class Query>
__device__ void to_score_gradients(Weights<M, N>& weights, Weights<M, N>& gradients,
                                   const float (&p)[M][N / 8][4], const float (&dp)[M][N / 8][4],
                                   const Query& query, bool whole, int distance, int window,
                                   float scale) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < N / 8; ++n) {
            float weight[4], gradient[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int own = 16 * m + 8 * (i / 2), other = 8 * n + i % 2;
                const int away = by_keys ? other - own : own - other;
                const QueryStatistics known = query(m, n, i);
                weight[i] = exp2_approximate(p[m][n][i] * scale - known.lse);
                if (!whole && !sees(distance + away, window)) weight[i] = 0;
                gradient[i] = weight[i] * (dp[m][n][i] - known.delta);
            }
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int word = r + 2 * (n % 2);
                weights[m][n / 2][word] = pack(weight[2 * r], weight[2 * r + 1]);
                gradients[m][n / 2][word] = pack(gradient[2 * r], gradient[2 * r + 1]);
            }
        }
    }
}

/// The other side's rows in shared memory: queries and dout with their statistics, or keys and
/// values. A query that does not exist has zeros everywhere, and so adds nothing.
template <int D, Owner owner>
struct OtherRows {
    using Size = BackwardTile<D, owner>;
    Bf16 *first, *second;
    float* statistics;  ///< lse, then delta

    __device__ OtherRows(Bf16* stages, int stage) {
        constexpr int matrix = Size::other * HeadTile<D>::stride;
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
        start_tile<D, N>(first, Size::by_keys ? a.q : a.k, tile.head, a.head_dim, row, count);
        start_tile<D, N>(second, Size::by_keys ? a.dout : a.v, tile.head, a.head_dim, row, count);
        const int i = static_cast<int>(threadIdx.x);
        if (!Size::by_keys || i >= 2 * N) return;
        const float* const from = i < N ? a.lse : a.delta;
        start_copy4(statistics + i, from + std::int64_t{tile.head} * a.tokens + row + i % N,
                    i % N < count);
    }
};

/// Of the rows of a thread: those of a query that does not exist are not used.
template <int M>
__device__ void load_statistics(QueryStatistics (&own)[M][2], const Attention<Bf16>& a, int head,
                                const Tile& tile) {
    const WarpPlace place = warp_place<M>();
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

/// One tile's share of a warp's sums.
template <int D, Owner owner, class Query>
__device__ void add_gradients(HeadSum<D, BackwardTile<D, owner>::tiles>& sum0,
                              HeadSum<D, BackwardTile<D, owner>::tiles>& sum1, const Bf16* own0,
                              const Bf16* own1, const OtherRows<D, owner>& other,
                              const Query& query, bool whole, int distance,
                              const Attention<Bf16>& a) {
    using Size = BackwardTile<D, owner>;
    constexpr int N = Size::other, M = Size::tiles;
    const int columns = warp_place<M>().group * HeadTile<D>::columns;
    float p[M][N / 8][4] = {}, dp[M][N / 8][4] = {};
    rows_times_rows<D, N, M>(p, own0, other.first);
    rows_times_rows<D, N, M>(dp, own1, other.second);
    Weights<M, N> weights, gradients;
    to_score_gradients<Size::by_keys, M, N>(weights, gradients, p, dp, query, whole, distance,
                                            a.window, a.scale * log2_e);
    weights_times_rows<D, N, M>(sum0, gradients, other.first + columns);
    if constexpr (Size::by_keys) {
        weights_times_rows<D, N, M>(sum1, weights, other.second + columns);
    }
}

/// Turns the gradients of whole heads of D columns back, in rows from `first` on, of which `count`
/// exist. A pair's columns lie D / 2 apart, in one thread.
template <int D, int M>
__device__ void turn_back(HeadSum<D, M>& sum, const DeviceRotary& rotary, std::int64_t first,
                          int count) {
    constexpr int half = D / 2;
    const WarpPlace place = warp_place<M>();
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = place.lane / 4 + 16 * m + 8 * r;
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
template <int D, Owner owner>
__device__ void store_gradients(const Attention<Bf16>& a, int head, std::int64_t first, int count,
                                Bf16* own0, Bf16* own1,
                                HeadSum<D, BackwardTile<D, owner>::tiles>& sum0,
                                const HeadSum<D, BackwardTile<D, owner>::tiles>& sum1) {
    constexpr bool by_keys = owner == Owner::keys;
    constexpr int M = BackwardTile<D, owner>::tiles;
    // Only this warp still reads its rows, or groups that share them have met behind the last turn.
    static_assert(HeadTile<D>::groups == 1 || BackwardTile<D, owner>::stages == 1);
    const WarpPlace place = warp_place<M>();
    first += place.rows;
    count -= place.rows;
    float factor[M][2];
    if constexpr (by_keys) {
#pragma unroll
        for (int m = 0; m < M; ++m) factor[m][0] = factor[m][1] = 1;
        store_sums<D, M>(own1 + place.rows * HeadTile<D>::stride, a.dv, head, a.head_dim, first,
                         count, sum1, factor);
    }
    if constexpr (HeadTile<D>::groups == 1) {
        if (a.rotary.table != nullptr) turn_back<D, M>(sum0, a.rotary, first, count);
    }
#pragma unroll
    for (int m = 0; m < M; ++m) factor[m][0] = factor[m][1] = a.scale;
    store_sums<D, M>(own0 + place.rows * HeadTile<D>::stride, by_keys ? a.dk : a.dq, head,
                     a.head_dim, first, count, sum0, factor);
}

/// Grid: tile_numbers(tokens, sequences, BackwardTile::own) x heads (kv_heads where keys own). Keys
/// are the queries' rows. The tiles that meet most go first.
template <int D, Owner owner>
__global__ void __launch_bounds__(HeadTile<D>::threads)
    attention_backward_kernel(Attention<Bf16> a) {
    using Size = BackwardTile<D, owner>;
    constexpr bool by_keys = Size::by_keys;
    constexpr int N = Size::other, M = Size::tiles;
    auto* const own0 = reinterpret_cast<Bf16*>(dynamic_shared());  // keys, or queries
    Bf16* const own1 = own0 + Size::own * HeadTile<D>::stride;     // values, or dout
    Bf16* const stages = own1 + Size::own * HeadTile<D>::stride;
    const Tile tile = find_tile<Size::own>(a.sequences.begin, a.sequences.count,
                                           by_keys ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
    if (tile.empty()) return;
    const Sequence sequence = sequence_at(a.sequences, tile.segment);
    const int ratio = a.heads / a.kv_heads, y = static_cast<int>(blockIdx.y);
    const int first = uniform(static_cast<int>(tile.place));
    const int count = uniform(static_cast<int>(tile.end - tile.first));
    const int all = uniform(static_cast<int>(sequence.query_count));
    const WarpPlace place = warp_place<M>();
    const auto reach = [&](int from, int rows, int most) {
        return by_keys ? queries_of(from, rows, most, all, a.window)
                       : keys_of(from, rows, most, a.window);
    };
    const Reach block = reach(first, count, Size::own);
    const Reach warp = reach(first + place.rows, count - place.rows, 16 * M);
    const int begin = block.begin / N * N;
    const int turns = (block.end - begin + N - 1) / N * (by_keys ? ratio : 1);
    OtherTile next{by_keys ? y * ratio : y / ratio, begin, begin, block.end, N};

    start_tile<D, Size::own>(own0, by_keys ? a.k : a.q, y, a.head_dim, tile.first, count);
    start_tile<D, Size::own>(own1, by_keys ? a.v : a.dout, y, a.head_dim, tile.first, count);
    OtherRows<D, owner>(stages, 0).start(a, sequence, next);
    QueryStatistics own[M][2] = {};
    if constexpr (!by_keys) load_statistics<M>(own, a, y, tile);
    HeadSum<D, M> sum0 = {}, sum1 = {};
#pragma unroll 1
    for (int turn = 0; turn < turns; ++turn) {
        wait_for_copies();
        __syncthreads();  // this stage is here, and the other one has been used
        const int at = next.at;
        const OtherRows<D, owner> now(stages, turn % Size::stages);
        next.advance();
        if (Size::stages > 1 && turn + 1 < turns) {
            OtherRows<D, owner>(stages, (turn + 1) % Size::stages).start(a, sequence, next);
        }
        if (warp.meets(at, N)) {
            const auto query = [&](int m, int n, int i) -> QueryStatistics {
                if (!by_keys) return own[m][i / 2];
                const float* const known = now.statistics + 8 * n + place.column + i % 2;
                return {known[0] * log2_e, known[N]};
            };
            const int between = first + place.row - at - place.column;
            add_gradients<D, owner>(sum0, sum1, own0 + place.rows * HeadTile<D>::stride,
                                    own1 + place.rows * HeadTile<D>::stride, now, query,
                                    warp.whole(at, N), by_keys ? -between : between, a);
        }
        if constexpr (Size::stages == 1) {
            __syncthreads();  // the stage has been used
            if (turn + 1 < turns) now.start(a, sequence, next);
        }
    }
    store_gradients<D, owner>(a, y, sequence.queries + first, count, own0, own1, sum0, sum1);
}

}  // namespace fedit::cuda
