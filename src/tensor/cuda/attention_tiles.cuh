// tensor/cuda/attention_tiles.cuh: tiles of bf16 rows in shared memory and the products of
// attention on tensor cores. A warp owns 16 rows of its block's tile.
//
// Lane l holds of a 16 x 8 tile c of mma: c[i] at row l / 4 + 8 (i / 2), column 2 (l % 4) + i % 2.
// This is also how the left operand wants two such tiles, so weights go from one product to the
// next in registers.
#pragma once

#include "tensor/cuda/attention_arguments.cuh"

namespace fedit::cuda {

/// Rows that a block owns: queries, or keys where dk and dv are made.
inline constexpr int own_rows = 64;

/// Sizes for heads of up to D columns; the rest of a head is zeros.
template <int D>
struct HeadTile {
    static constexpr int stride = D + 8;  ///< rows start 4 banks apart
    /// Columns of the sums that one warp holds. A wider head is divided among groups of 4 warps,
    /// which all make the scores: two sums of 256 columns would not fit into registers.
    static constexpr int columns = D < 128 ? D : 128;
    static constexpr int threads = 128 * (D / columns);
    static constexpr std::size_t bytes(int rows) {
        return static_cast<std::size_t>(rows) * stride * sizeof(Bf16);
    }
};

/// This thread's part of a block.
struct WarpPlace {
    int lane, warp;   ///< the warp owns the tile's rows 16 warp ..
    int group;        ///< of warps, that owns a HeadTile's columns from its own times `group` on
    int row, column;  ///< of c[0], the column in its tile; c[2] lies 8 rows below
};

__device__ inline WarpPlace warp_place() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    return {lane, warp % 4, warp / 4, warp % 4 * 16 + lane / 4, lane % 4 * 2};
}

/// Copies rows [first, first + rows) of one head to a tile; rows from `end` on, and columns beyond
/// the head, become zeros.
template <int D>
__device__ void load_tile(Bf16* tile, Rows<Bf16> source, int head, int head_dim, std::int64_t first,
                          std::int64_t end, int rows) {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * (D / 8); i += HeadTile<D>::threads) {
        const int row = i / (D / 8), column = i % (D / 8) * 8;
        uint4 value{0, 0, 0, 0};
        if (first + row < end && column < head_dim) {
            value = load16(source.at(first + row, std::int64_t{head} * head_dim + column));
        }
        store16(tile + row * HeadTile<D>::stride + column, value);
    }
}

/// x (16 x N) += own (this warp's 16 rows) other^T (N rows).
template <int D, int N>
__device__ void rows_times_rows(float (&x)[N / 8][4], const Bf16* own, const Bf16* other) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 2  // unrolled fully, the kernel of dk and dv spills registers
    for (int d = 0; d < D; d += 16) {
        std::uint32_t a[4];
        ldmatrix(a, own + lane % 16 * HeadTile<D>::stride + d + lane / 16 * 8);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            std::uint32_t b[4];
            ldmatrix(b, other + (n + lane % 8 + lane / 16 * 8) * HeadTile<D>::stride + d +
                            lane / 8 % 2 * 8);
            mma(x[n / 8], a, b[0], b[1]);
            mma(x[n / 8 + 1], a, b[2], b[3]);
        }
    }
}

/// sum (16 x its columns) += weights (16 x N, rounded to bf16) other (N rows, those columns).
template <int D, int N>
__device__ void weights_times_rows(float (&sum)[HeadTile<D>::columns / 8][4],
                                   const float (&weights)[N / 8][4], const Bf16* other) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int n = 0; n < N; n += 16) {
        const auto& left = weights[n / 8];
        const auto& right = weights[n / 8 + 1];
        const std::uint32_t a[4] = {pack(left[0], left[1]), pack(left[2], left[3]),
                                    pack(right[0], right[1]), pack(right[2], right[3])};
#pragma unroll
        for (int d = 0; d < HeadTile<D>::columns; d += 16) {
            std::uint32_t b[4];
            ldmatrix_transposed(b,
                                other + (n + lane % 16) * HeadTile<D>::stride + d + lane / 16 * 8);
            mma(sum[d / 8], a, b[0], b[1]);
            mma(sum[d / 8 + 1], a, b[2], b[3]);
        }
    }
}

/// Writes this warp's sums, times factor[0] (row) and factor[1] (8 below), to rows from `first` on,
/// below `end`.
template <int D>
__device__ void store_tile(Rows<Bf16> target, int head, int head_dim, std::int64_t first,
                           std::int64_t end, const float (&sum)[HeadTile<D>::columns / 8][4],
                           const float (&factor)[2]) {
    const WarpPlace place = warp_place();
#pragma unroll
    for (int n = 0; n < HeadTile<D>::columns / 8; ++n) {
        const int column = place.group * HeadTile<D>::columns + n * 8 + place.column;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const std::int64_t row = first + place.row + 8 * r;
            if (row >= end || column >= head_dim) continue;
            *reinterpret_cast<std::uint32_t*>(
                target.at(row, std::int64_t{head} * head_dim + column)) =
                pack(sum[n][2 * r] * factor[r], sum[n][2 * r + 1] * factor[r]);
        }
    }
}

}  // namespace fedit::cuda
