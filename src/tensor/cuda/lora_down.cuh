// tensor/cuda/lora_down.cuh: the narrow product of an adapter, s = factor drop(x) W^T with W (rank
// x depth), on tensor cores. x is read once, straight into registers; each 16-byte vector is a
// Philox block's eight columns.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

inline constexpr int down_warps = 8, down_threads = 32 * down_warps;
/// Columns of x that a warp takes at once: a 16-byte vector for each of 4 lanes.
inline constexpr int down_columns = 32;

/// Bytes of a block's shared memory: each warp's sums of MT x 16 rows and NT x 8 ranks.
template <int MT, int NT>
inline constexpr std::size_t down_bytes = sizeof(float) * down_warps* MT * 16 * NT * 8;

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

/// Grid: tile_numbers(rows, slots, 16 MT) x ceil(largest rank / 8 NT).
///
/// The warps take the columns in turn. A lane l holds columns 8 (l % 4) .. + 7 of its 32, of rows
/// l / 4 and l / 4 + 8 of a tile, and the same columns of rank l / 4: the sum over columns has no
/// order in mma, so its k may number them as the vectors lie in memory.
template <int MT, int NT, LoraSide side>
__global__ void __launch_bounds__(down_threads) lora_down_kernel(LoraDown<Bf16> a) {
    const Tile tile = find_tile<16 * MT>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const Factor factor = factor_of<side>(a.slots.adapters[tile.segment], a.depth);
    const std::int64_t first_rank = std::int64_t{blockIdx.y} * 8 * NT;
    if (first_rank >= factor.rank) return;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int place = lane / 4, quarter = lane % 4;

    float sum[MT][NT][4] = {};
#pragma unroll 1
    for (std::int64_t j = warp * down_columns + 8 * quarter; j - 8 * quarter < a.depth;
         j += down_warps * down_columns) {
        uint4 x[2 * MT];
        load_vectors<side>(x, a.x, tile.first + place, 8, tile.end, j, a.depth, a.dropout,
                           tile.segment);
#pragma unroll
        for (int n = 0; n < NT; ++n) {
            std::uint32_t w[4];
            load_weights(w, factor, first_rank + 8 * n + place, j);
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                const uint4 &up = x[2 * m], &low = x[2 * m + 1];
                const std::uint32_t left[4] = {up.x, low.x, up.y, low.y};
                const std::uint32_t right[4] = {up.z, low.z, up.w, low.w};
                mma(sum[m][n], left, w[0], w[1]);
                mma(sum[m][n], right, w[2], w[3]);
            }
        }
    }

    auto* const part = reinterpret_cast<float*>(dynamic_shared());
    constexpr int ranks = 8 * NT, elements = 16 * MT * ranks;
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int n = 0; n < NT; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int row = 16 * m + place + 8 * (i / 2), rank = 8 * n + 2 * quarter + i % 2;
                part[warp * elements + row * ranks + rank] = sum[m][n][i];
            }
        }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < elements; i += down_threads) {
        const std::int64_t row = tile.first + i / ranks, rank = first_rank + i % ranks;
        if (row >= tile.end || rank >= factor.rank) continue;
        float value[1] = {0};
        for (int w = 0; w < down_warps; ++w) value[0] += part[w * elements + i];
        value[0] *=
            side == LoraSide::input ? a.dropout.factor : a.slots.adapters[tile.segment].scale;
        store(a.s.at(row, rank), value);
    }
}

}  // namespace fedit::cuda
