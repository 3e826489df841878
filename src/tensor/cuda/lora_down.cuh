// tensor/cuda/lora_down.cuh: the narrow products of an adapter on tensor cores: shares of s =
// factor drop(x) A^T, or of ds = scale dy B together with those of db = scale dy^T s. x or dy is
// read once.
#pragma once

#include "tensor/cuda/lora_tiles.cuh"

namespace fedit::cuda {

inline constexpr int down_warps = 8, down_threads = 32 * down_warps;
/// A warp's columns: groups of 32.
inline constexpr int down_groups = slice_columns / down_warps / 32;

/// Sums of 16 rows by one warp.
template <int RT>
inline constexpr int down_sums = 16 * 16 * RT;
static_assert(down_sums<1> == down_threads);
/// Bytes of a block's shared memory: two sets of sums in turn, then s, or the rows' counters.
template <int RT, LoraSide side>
inline constexpr std::size_t down_bytes = sizeof(float) * 2 * down_warps* down_sums<RT> +
                                          (side == LoraSide::input ? counter_bytes
                                                                   : narrow_bytes<16 * RT>);

/// Shares of s or ds, one a slice of columns: (slices x rows x largest rank). On the output's side
/// also those of db, for which the forward pass's s is given.
struct LoraSlices {
    float* sums;
    GradientShares gradient;
    Rows<Bf16> x, s;
    DeviceSlots slots;
    DeviceDropout dropout;
    std::int64_t depth, rows;

    __device__ std::int64_t place(std::int64_t slice, std::int64_t row, std::int64_t rank) const {
        return (slice * rows + row) * slots.largest_rank + rank;
    }
};

/// Eight neighbouring weights of one rank as bf16; zeros beyond the matrix.
__device__ inline void load_weights(std::uint32_t (&w)[4], const Factor& factor, std::int64_t rank,
                                    std::int64_t column) {
    float x[8] = {};
    if (rank < factor.rank && column < factor.depth) {
        if (factor.vectors) {
            load(x, factor.data + rank * factor.rank_stride + column);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = factor.at(rank, column + i);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) w[i] = pack(x[2 * i], x[2 * i + 1]);
}

/// A lane's weights: of every eighth rank from `rank` on, in each group of columns.
template <int N>
__device__ void load_weights(std::uint32_t (&w)[down_groups][N][4], const Factor& factor,
                             std::int64_t rank, std::int64_t column) {
#pragma unroll
    for (int g = 0; g < down_groups; ++g) {
#pragma unroll
        for (int n = 0; n < N; ++n) load_weights(w[g][n], factor, rank + 8 * n, column + 32 * g);
    }
}

/// sum (16 rows x 8 ranks) += x w over 32 columns.
__device__ inline void add_narrow(float (&sum)[4], const uint4 (&x)[2],
                                  const std::uint32_t (&w)[4]) {
    const std::uint32_t left[4] = {x[0].x, x[1].x, x[0].y, x[1].y};
    const std::uint32_t right[4] = {x[0].z, x[1].z, x[0].w, x[1].w};
    mma(sum, left, w[0], w[1]);
    mma(sum, right, w[2], w[3]);
}

/// Adds the warps' sums of 16 rows, which lie as mma left them, in order. `to`: the first row's
/// first rank; `rows` and `ranks` are left.
template <int RT>
__device__ void store_slice(float* to, const float* part, std::int64_t distance, int rows,
                            int ranks) {
#pragma unroll
    for (int n = 0; n < RT; ++n) {
        const int e = static_cast<int>(threadIdx.x) + n * down_threads;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < down_warps; ++w) sum += part[w * down_sums<RT> + e];
        const int lane = e % 128 / 4, i = e % 4;
        const int row = lane / 4 + 8 * (i / 2), rank = e / 128 * 8 + 2 * (lane % 4) + i % 2;
        if (row < rows && rank < ranks) to[row * distance + rank] = sum;
    }
}

/// Grid: tile_numbers(rows, slots, gradient_chunk) x (slices * rank_tiles), rank_tiles =
/// ceil(largest rank / 16 RT).
template <int RT, LoraSide side>
__global__ void __launch_bounds__(down_threads, RT == 1 ? 2 : 1)
    lora_down_kernel(LoraSlices a, int rank_tiles) {
    constexpr bool gradient = side == LoraSide::output;
    const Tile tile = find_tile<gradient_chunk>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const Factor factor = factor_of<side>(a.slots.adapters[tile.segment], a.depth);
    const std::int64_t first_rank = static_cast<std::int64_t>(blockIdx.y) % rank_tiles * 16 * RT;
    if (first_rank >= factor.rank) return;
    const std::int64_t slice = static_cast<std::int64_t>(blockIdx.y) / rank_tiles;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int place = lane / 4;
    const std::int64_t column = slice * slice_columns + warp * 32 * down_groups + lane % 4 * 8;

    auto* const part = reinterpret_cast<float*>(dynamic_shared());
    void* const rest = part + 2 * down_warps * down_sums<RT>;
    auto* const counters = static_cast<std::int64_t*>(rest);
    auto* const s = static_cast<Bf16*>(rest);
    LaneVectors<down_groups> vectors(a.x, tile, column, a.depth);
    uint4 x[down_groups][2];
    vectors.load(x);
    std::uint32_t w[down_groups][2 * RT][4];
    load_weights(w, factor, first_rank + place, column);
    if constexpr (gradient) {
        load_narrow<16 * RT>(s, a.s, tile, first_rank, factor.rank);
        __syncthreads();
    } else if (a.dropout.threshold > 0) {
        load_counters(counters, a.dropout, tile);
        __syncthreads();
    }
    const TileDropout dropout(a.dropout, tile.segment, counters);

    float db[down_groups][RT][4][4] = {};
    const int count = static_cast<int>(tile.end - tile.first);
    const auto ranks = static_cast<int>(factor.rank - first_rank);
    const std::int64_t distance = a.slots.largest_rank;
    float* const to = a.sums + a.place(slice, tile.first, first_rank);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        if constexpr (!gradient) dropout.drop_from(x, t + place, column);
        float sum[2 * RT][4] = {};
#pragma unroll
        for (int g = 0; g < down_groups; ++g) {
#pragma unroll
            for (int n = 0; n < 2 * RT; ++n) add_narrow(sum[n], x[g], w[g][n]);
        }
        if constexpr (gradient) {
            std::uint32_t left[RT][4];
#pragma unroll
            for (int m = 0; m < RT; ++m) load_left_transposed<16 * RT>(left[m], s, t, 16 * m);
#pragma unroll
            for (int g = 0; g < down_groups; ++g) add_gradient(db[g], left, x[g]);
        }
        // The next rows are on their way while the warps wait for each other.
        vectors.advance();
        vectors.load(x);
        float* const sums = part + t / 16 % 2 * down_warps * down_sums<RT>;
#pragma unroll
        for (int n = 0; n < 2 * RT; ++n) {
            store(sums + warp * down_sums<RT> + 128 * n + 4 * lane, sum[n]);
        }
        __syncthreads();  // the set of sums before this one has been read, too
        store_slice<RT>(to + t * distance, sums, distance, count - t, ranks);
    }
    if constexpr (gradient) {
#pragma unroll
        for (int g = 0; g < down_groups; ++g) {
            store_gradient<side>(a.gradient.chunk(blockIdx.x), db[g], first_rank, factor.rank,
                                 column + 32 * g, a.depth);
        }
    }
}

/// Rows of a block that adds slices.
inline constexpr int sum_rows = 16, sum_threads = 256;

/// s = factor * the sum of its slices' shares. Grid: tile_numbers(rows, slots, sum_rows).
template <LoraSide side>
__global__ void __launch_bounds__(sum_threads) lora_sum_slices_kernel(LoraSlices a, Rows<Bf16> to) {
    const Tile tile = find_tile<sum_rows>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const float scale = side == LoraSide::input ? a.dropout.factor : slot.scale;
    const auto rank = static_cast<int>(slot.rank);
    const std::int64_t slices = (a.depth + slice_columns - 1) / slice_columns;
    for (int i = static_cast<int>(threadIdx.x); i < sum_rows * rank; i += sum_threads) {
        const std::int64_t row = tile.first + i / rank, r = i % rank;
        if (row >= tile.end) return;
        float sum[1] = {0};
#pragma unroll 8
        for (std::int64_t slice = 0; slice < slices; ++slice) {
            sum[0] += a.sums[a.place(slice, row, r)];
        }
        sum[0] *= scale;
        store(to.at(row, r), sum);
    }
}

}  // namespace fedit::cuda
