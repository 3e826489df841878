// tensor/cuda/lora_up.cuh: the wide products of adapters on tensor cores: y += scale s B^T, or dx
// += the sum over the layers that share x of drop'(ds A) together with shares of da = ds^T drop(x).
// y or dx is read and written once, x read once.
#pragma once

#include "tensor/cuda/lora_tiles.cuh"

namespace fedit::cuda {

/// Columns of a warp and of a block.
inline constexpr int up_warp_columns = 32, up_threads = 128,
                     up_columns = up_warp_columns * up_threads / 32;

/// Bytes of a block's shared memory: the rows' counters on the input's side, then each layer's s.
template <int layers, int KT, LoraSide side>
inline constexpr std::size_t up_bytes = layers* narrow_bytes<16 * KT> +
                                        (side == LoraSide::input ? counter_bytes : 0);

/// What one layer contributes.
struct LayerWide {
    Rows<Bf16> s;
    GradientShares gradient;  ///< on the input's side
    DeviceSlots slots;
    std::uint32_t module;
};

/// y += factor W^T s of all layers where that is wanted. On the input's side also the shares of s^T
/// drop(x).
template <int layers>
struct LoraWide {
    LayerWide layer[layers];
    Rows<Bf16> y, x;
    bool adds;  ///< else y is not touched
    DeviceDropout dropout;
    std::int64_t depth;
};

/// Blocks that an SM should hold, by 16-rank tiles of all layers: as many as their registers allow.
/// Eight of the smallest hold 8192 rows of 4096 columns at once, so that none is left for a second
/// round.
template <int tiles, LoraSide side>
inline constexpr int up_blocks = side == LoraSide::input ? (tiles == 1   ? 4
                                                            : tiles <= 3 ? 3
                                                                         : 2)
                                                         : (tiles == 1   ? 8
                                                            : tiles == 2 ? 6
                                                                         : 4);

/// Where a lane works: it ends with eight neighbouring columns of its warp's 32, of two rows of
/// each
/// 16. Column 2 j + i of them is mma's column 2 (lane % 4) + i of the j-th of 4 products.
struct UpPlace {
    int row;                     ///< of 16; the other row lies 8 below
    int rank;                    ///< of its weights; load_right says which else
    std::int64_t column;         ///< the first of eight
    std::int64_t weight_column;  ///< of the first product; the others' lie 2 on each
};

/// Of a warp whose columns begin at `first`.
__device__ inline UpPlace up_place(std::int64_t first) {
    const int place = static_cast<int>(threadIdx.x) % 32 / 4;
    const int quarter = static_cast<int>(threadIdx.x) % 4;
    return {.row = place,
            .rank = 2 * quarter,
            .column = first + 8 * quarter,
            .weight_column = first + 8 * (place / 2) + place % 2};
}
__device__ inline UpPlace up_place() {
    return up_place(std::int64_t{blockIdx.y} * up_columns + threadIdx.x / 32 * up_warp_columns);
}

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

/// x where `bit` is 1, 0 where it is 0.
__device__ inline float if_kept(float x, std::uint32_t bit) {
    return float_of_bits(bits_of_float(x) & (0U - bit));
}

/// Zeros in x where the mask of a lane's two rows has none.
__device__ inline void drop(float (&x)[4][4], const uint4 (&mask)[2]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const std::uint32_t kept = word(mask[r], i);
            x[i][2 * r] = if_kept(x[i][2 * r], kept & 1U);
            x[i][2 * r + 1] = if_kept(x[i][2 * r + 1], kept >> 31);
        }
    }
}

/// Row r of a lane's two: y + scale * sum.
__device__ inline uint4 added(const uint4& y, const float (&sum)[4][4], int r, float scale) {
    std::uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t old = word(y, i);
        out[i] =
            pack(low_half(old) + scale * sum[i][2 * r], high_half(old) + scale * sum[i][2 * r + 1]);
    }
    return {out[0], out[1], out[2], out[3]};
}

/// sum += s W of 16 rows from row t on, for all tiles of 16 ranks.
template <int KT>
__device__ void wide_product(float (&sum)[4][4], const Bf16* s, int t,
                             const std::uint32_t (&w)[KT][4][2]) {
#pragma unroll
    for (int k = 0; k < KT; ++k) {
        std::uint32_t left[4];
        load_left<16 * KT>(left, s, t, 16 * k);
#pragma unroll
        for (int j = 0; j < 4; ++j) mma(sum[j], left, w[k][j][0], w[k][j][1]);
    }
}

/// What one layer makes of 16 rows of x, whose masks these are: da += s^T drop(x), and drop'(s W)
/// if `adds`, which is added to `total` unless it is the first.
template <int KT>
__device__ void add_layer(float (&da)[KT][4][4], float (&total)[4][4], const uint4 (&x)[2],
                          const uint4 (&mask)[2], const Bf16* s, int t,
                          const std::uint32_t (&w)[KT][4][2], bool adds, bool first) {
    const uint4 kept[2] = {drop(x[0], mask[0]), drop(x[1], mask[1])};
    std::uint32_t left[KT][4];
#pragma unroll
    for (int k = 0; k < KT; ++k) load_left_transposed<16 * KT>(left[k], s, t, 16 * k);
    add_gradient(da, left, kept);
    if (!adds) return;
    float sum[4][4] = {};
    wide_product<KT>(sum, s, t, w);
    drop(sum, mask);
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        float& so_far = total[i / 4][i % 4];
        so_far = first ? sum[i / 4][i % 4] : so_far + sum[i / 4][i % 4];
    }
}

/// What the ranks [first_rank, first_rank + 16 KT) contribute. Grid: tile_numbers(rows, slots,
/// gradient_chunk) x ceil(depth / up_columns).
template <int layers, int KT, LoraSide side>
__global__ void __launch_bounds__(up_threads, up_blocks<layers * KT, side>)
    lora_up_kernel(LoraWide<layers> a, int first_rank) {
    constexpr bool gradient = side == LoraSide::input;
    static_assert(layers == 1 || gradient);  // outputs are not shared
    constexpr int narrow = narrow_size<16 * KT>;
    const DeviceSlots& slots = a.layer[0].slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty() || largest_rank(a.layer, tile.segment) <= first_rank) return;
    const UpPlace place = up_place();
    const std::int64_t column = place.column;

    LaneVectors<1> xs(gradient ? a.x : a.y, tile, column, a.depth), ys(a.y, tile, column, a.depth);
    uint4 x[1][2], y[1][2];
    if constexpr (gradient) xs.load(x);
    if (a.adds) ys.load(y);
    auto* const counters = reinterpret_cast<std::int64_t*>(dynamic_shared());
    auto* const s = reinterpret_cast<Bf16*>(dynamic_shared() + (gradient ? counter_bytes : 0));
    std::uint32_t w[layers][KT][4][2];
#pragma unroll
    for (int l = 0; l < layers; ++l) {
        const Factor factor = factor_of<side>(a.layer[l].slots.adapters[tile.segment], a.depth);
        load_right(w[l], factor, first_rank + place.rank, place.weight_column);
        load_narrow<16 * KT>(s + l * narrow, a.layer[l].s, tile, first_rank, factor.rank);
    }
    if (gradient && a.dropout.threshold > 0) load_counters(counters, a.dropout, tile);
    __syncthreads();
    const TileDropout dropout(a.dropout, tile.segment, counters);
    const float scale = gradient ? a.dropout.factor : slots.adapters[tile.segment].scale;

    float da[layers][KT][4][4] = {};
    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        float total[4][4] = {};
#pragma unroll
        for (int l = 0; l < layers; ++l) {
            if constexpr (!gradient) {
                wide_product<KT>(total, s, t, w[l]);
            } else {
                uint4 mask[2];
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    mask[r] = dropout.mask(a.layer[l].module, t + place.row + 8 * r, column);
                }
                add_layer<KT>(da[l], total, x[0], mask, s + l * narrow, t, w[l], a.adds, l == 0);
            }
        }
        if constexpr (gradient) {
            xs.advance();
            xs.load(x);
        }
        if (!a.adds) continue;
        const uint4 result[2] = {added(y[0][0], total, 0, scale), added(y[0][1], total, 1, scale)};
        const LaneVectors<1> current = ys;
        ys.advance();
        ys.load(y);
#pragma unroll
        for (int r = 0; r < 2; ++r) current.store(result[r], r);
    }
    if constexpr (gradient) {
#pragma unroll
        for (int l = 0; l < layers; ++l) {
            store_gradient<side>(a.layer[l].gradient.chunk(blockIdx.x), da[l], first_rank,
                                 a.layer[l].slots.adapters[tile.segment].rank, column, a.depth);
        }
    }
}

}  // namespace fedit::cuda
