// tensor/cuda/lora_up.cuh: the wide products of an adapter on tensor cores: y += scale s B^T, or
// dx += drop'(ds A) together with shares of da = ds^T drop(x). y or dx is read and written once, x
// read once.
#pragma once

#include "tensor/cuda/lora_tiles.cuh"

namespace fedit::cuda {

/// Columns of a warp and of a block.
inline constexpr int up_warp_columns = 32, up_threads = 128,
                     up_columns = up_warp_columns * up_threads / 32;

/// Bytes of a block's shared memory: the rows' counters on the input's side, then s.
template <int KT, LoraSide side>
inline constexpr std::size_t up_bytes = narrow_bytes<16 * KT> +
                                        (side == LoraSide::input ? counter_bytes : 0);

/// y += factor W^T s where that is wanted. On the input's side also the shares of s^T drop(x).
struct LoraWide {
    Rows<Bf16> y, s, x;
    bool adds;  ///< else y is not touched
    GradientShares gradient;
    DeviceSlots slots;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// Blocks that an SM should hold, by 16-rank tiles: as many as their registers allow. Eight of the
/// smallest hold 8192 rows of 4096 columns at once, so that none is left for a second round.
template <int KT, LoraSide side>
inline constexpr int up_blocks = side == LoraSide::input ? (KT == 1   ? 4
                                                            : KT == 2 ? 3
                                                                      : 2)
                                                         : (KT == 1   ? 8
                                                            : KT == 2 ? 6
                                                                      : 4);

/// Ranks `first`, + 1, + 8 and + 9 of a column; zeros beyond the matrix.
__device__ inline void load_right(std::uint32_t (&w)[2], const Factor& factor, std::int64_t first,
                                  std::int64_t column) {
    float x[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const std::int64_t rank = first + i % 2 + 8 * (i / 2);
        if (column < factor.depth && rank < factor.rank) x[i] = factor.at(rank, column);
    }
    w[0] = pack(x[0], x[1]);
    w[1] = pack(x[2], x[3]);
}

/// The same for all tiles of 16 ranks and all products.
template <int KT>
__device__ void load_right(std::uint32_t (&w)[KT][4][2], const Factor& factor, std::int64_t first,
                           std::int64_t column) {
#pragma unroll
    for (int k = 0; k < KT; ++k) {
#pragma unroll
        for (int j = 0; j < 4; ++j) load_right(w[k][j], factor, first + 16 * k, column + 2 * j);
    }
}

/// Row r of a lane's two: y + scale * sum where the mask has ones, else y.
__device__ inline uint4 added(const uint4& y, const float (&sum)[4][4], int r, float scale,
                              const uint4& mask) {
    std::uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t old = word(y, i), kept = word(mask, i);
        const std::uint32_t both =
            pack(low_half(old) + scale * sum[i][2 * r], high_half(old) + scale * sum[i][2 * r + 1]);
        out[i] = (both & kept) | (old & ~kept);
    }
    return {out[0], out[1], out[2], out[3]};
}

/// What the ranks [first_rank, first_rank + 16 KT) contribute. Grid: tile_numbers(rows, slots,
/// gradient_chunk) x ceil(depth / up_columns).
///
/// Lane l ends with columns 8 (l % 4) .. + 7 of its warp's 32: column 8 (l % 4) + 2 j + i of the
/// j-th of 4 products is mma's column 2 (l % 4) + i.
template <int KT, LoraSide side>
__global__ void __launch_bounds__(up_threads, up_blocks<KT, side>)
    lora_up_kernel(LoraWide a, int first_rank) {
    constexpr bool gradient = side == LoraSide::input;
    const Tile tile = find_tile<gradient_chunk>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const Factor factor = factor_of<side>(slot, a.depth);
    if (factor.rank <= first_rank) return;
    const int lane = static_cast<int>(threadIdx.x) % 32, place = lane / 4, quarter = lane % 4;
    const std::int64_t first =
        std::int64_t{blockIdx.y} * up_columns + threadIdx.x / 32 * up_warp_columns;
    const std::int64_t column = first + 8 * quarter;

    LaneVectors<1> xs(gradient ? a.x : a.y, tile, column, a.depth), ys(a.y, tile, column, a.depth);
    uint4 x[1][2], y[1][2];
    if constexpr (gradient) xs.load(x);
    if (a.adds) ys.load(y);
    std::uint32_t w[KT][4][2];
    load_right(w, factor, first_rank + 2 * quarter, first + 8 * (place / 2) + place % 2);
    auto* const counters = reinterpret_cast<std::int64_t*>(dynamic_shared());
    auto* const s = reinterpret_cast<Bf16*>(dynamic_shared() + (gradient ? counter_bytes : 0));
    load_narrow<16 * KT>(s, a.s, tile, first_rank, factor.rank);
    if (gradient && a.dropout.threshold > 0) load_counters(counters, a.dropout, tile);
    __syncthreads();
    const TileDropout dropout(a.dropout, tile.segment, counters);
    const float scale = gradient ? a.dropout.factor : slot.scale;

    float da[KT][4][4] = {};
    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        uint4 mask[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            mask[r] = uint4{~0U, ~0U, ~0U, ~0U};
            if (!gradient) continue;
            if (dropout.threshold > 0) mask[r] = dropout.mask(t + place + 8 * r, column);
            x[0][r] = drop(x[0][r], mask[r]);
        }
        if constexpr (gradient) {
            std::uint32_t left[KT][4];
#pragma unroll
            for (int k = 0; k < KT; ++k) load_left_transposed<16 * KT>(left[k], s, t, 16 * k);
            add_gradient(da, left, x[0]);
            xs.advance();
            xs.load(x);
        }
        if (!a.adds) continue;
        float sum[4][4] = {};
#pragma unroll
        for (int k = 0; k < KT; ++k) {
            std::uint32_t left[4];
            load_left<16 * KT>(left, s, t, 16 * k);
#pragma unroll
            for (int j = 0; j < 4; ++j) mma(sum[j], left, w[k][j][0], w[k][j][1]);
        }
        uint4 result[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) result[r] = added(y[0][r], sum, r, scale, mask[r]);
        const LaneVectors<1> current = ys;
        ys.advance();
        ys.load(y);
        current.store(result);
    }
    if constexpr (gradient) {
        store_gradient<side>(a.gradient.chunk(blockIdx.x), da, first_rank, factor.rank, column,
                             a.depth);
    }
}

}  // namespace fedit::cuda
