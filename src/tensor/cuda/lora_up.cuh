// tensor/cuda/lora_up.cuh: the wide product of an adapter, y += W^T s with W (rank x depth), on
// tensor cores. y is read and written once, in 16-byte vectors; no shared memory.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

/// Rows of a block; the weights stay in registers for all of them.
inline constexpr int up_rows = 128;
/// Columns of a warp and of a block.
inline constexpr int up_warp_columns = 32, up_threads = 128,
                     up_columns = up_warp_columns * up_threads / 32;

/// Ranks k .. k + 3 of one row of s; zeros beyond.
__device__ inline void load_ranks(std::uint32_t (&v)[2], const Bf16* row, std::int64_t k,
                                  std::int64_t rank) {
    std::uint32_t bits[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) bits[i] = k + i < rank ? row[k + i].bits : 0U;
    v[0] = bits[0] | bits[1] << 16;
    v[1] = bits[2] | bits[3] << 16;
}

/// y (8 neighbouring columns) += factor * x.
__device__ inline void add_vector(Bf16* y, const float (&x)[8], float factor) {
    float old[8];
    load(old, y);
#pragma unroll
    for (int i = 0; i < 8; ++i) old[i] += factor * x[i];
    store(y, old);
}

/// Adds what the ranks [first_rank, first_rank + 16 KT) contribute. Grid: tile_numbers(rows, slots,
/// up_rows) x ceil(depth / up_columns).
///
/// Lane l ends with columns 8 (l % 4) .. + 7 of its warp's 32: column 8 (l % 4) + 2 j + i of the
/// j-th of 4 products is mma's column 2 (l % 4) + i. Ranks are numbered so that a lane's four are
/// neighbours.
template <int KT, LoraSide side>
__global__ void __launch_bounds__(up_threads, KT > 4 ? 3 : 4)
    lora_up_kernel(LoraUp<Bf16> a, int first_rank) {
    const Tile tile = find_tile<up_rows>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const Factor factor = factor_of<side>(slot, a.depth);
    if (factor.rank <= first_rank) return;
    const int lane = static_cast<int>(threadIdx.x) % 32, place = lane / 4, quarter = lane % 4;
    const std::int64_t first =
        std::int64_t{blockIdx.y} * up_columns + threadIdx.x / 32 * up_warp_columns;
    const std::int64_t column = first + 8 * quarter;

    std::uint32_t w[KT][4][2];
#pragma unroll
    for (int k = 0; k < KT; ++k) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const std::int64_t own = first + 8 * (place / 2) + 2 * j + place % 2;
            float x[4] = {};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const std::int64_t rank = first_rank + 16 * k + 4 * quarter + i;
                if (own < a.depth && rank < factor.rank) x[i] = factor.at(rank, own);
            }
            w[k][j][0] = pack(x[0], x[1]);
            w[k][j][1] = pack(x[2], x[3]);
        }
    }
    const bool drops = side == LoraSide::input && a.dropout.threshold > 0;
    const float scale = side == LoraSide::input ? a.dropout.factor : slot.scale;
#pragma unroll 1
    for (std::int64_t t = tile.first; t < tile.end; t += 16) {
        const std::int64_t row[2] = {t + place, t + place + 8};
        float sum[4][4] = {};
#pragma unroll
        for (int k = 0; k < KT; ++k) {
            std::uint32_t up[2] = {}, low[2] = {};
            const std::int64_t rank = first_rank + 16 * k + 4 * quarter;
            if (row[0] < tile.end) load_ranks(up, a.s.at(row[0], 0), rank, factor.rank);
            if (row[1] < tile.end) load_ranks(low, a.s.at(row[1], 0), rank, factor.rank);
            const std::uint32_t left[4] = {up[0], low[0], up[1], low[1]};
#pragma unroll
            for (int j = 0; j < 4; ++j) mma(sum[j], left, w[k][j][0], w[k][j][1]);
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if (row[r] >= tile.end || column >= a.depth) continue;
            float x[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = sum[i / 2][2 * r + i % 2];
            if (drops) {
                drop(x, keep_mask(dropout_row(a.dropout, tile.segment, row[r]), column / 8));
            }
            add_vector(a.y.at(row[r], column), x, scale);
        }
    }
}

}  // namespace fedit::cuda
