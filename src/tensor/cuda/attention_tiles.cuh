// tensor/cuda/attention_tiles.cuh: tiles of a head's rows in shared memory, for attention on tensor
// cores. How they lie there and how they are multiplied is a choice P: WarpProducts or
// GroupProducts, for heads of up to D columns; the rest of a head is zeros.
//
// Lane l holds of a 16 x 8 tile c of a product: c[i] at row l / 4 + 8 (i / 2), column
// 2 (l % 4) + i % 2. This is also how the left operand wants two such tiles, so weights go from one
// product to the next in registers.
#pragma once

#include "tensor/cuda/attention_arguments.cuh"

namespace fedit::cuda {

/// The columns of the sums of M times 16 rows that a thread holds a part of.
template <class P, int M>
using HeadSum = float[M][P::columns / 8][4];

/// Weights (16 M x N) as a left operand: word w[m][n / 16] [r + 2 c] has the row of c[2 r] of the
/// tile (m, n / 8 + c).
template <int M, int N>
using Weights = std::uint32_t[M][N / 16][4];

/// Numbers (16 x N) in tiles as weights.
template <int N>
__device__ void to_weights(std::uint32_t (&weights)[N / 16][4], const float (&x)[N / 8][4]) {
#pragma unroll
    for (int n = 0; n < N / 8; ++n) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            weights[n / 2][r + 2 * (n % 2)] = pack(x[n][2 * r], x[n][2 * r + 1]);
        }
    }
}

/// A number that all lanes of a warp share, so that the compiler may keep it in a register of the
/// warp, and knows that branches on it do not divide lanes.
template <class T>
__device__ T uniform(T x) {
    return shfl(x, 0);
}

/// This thread's part of a block, each of whose warps owns M times 16 rows.
struct WarpPlace {
    int lane;
    int rows;         ///< the first row of this warp in its block's tile
    int group;        ///< of warps, that owns P::columns columns from its own times `group` on
    int row, column;  ///< of c[0] in the first of its M tiles; c[2] lies 8 rows below
};

template <class P, int M>
__device__ WarpPlace warp_place() {
    const int lane = own_lane();
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int rows = warp % P::row_warps * (16 * M);
    return {lane, rows, warp / P::row_warps, rows + lane / 4, lane % 4 * 2};
}

/// Rows of a block whose warps own M times 16 each.
template <class P, int M>
inline constexpr int block_rows = 16 * M* P::row_warps;

/// Bytes of tiles of so many rows.
template <class P>
constexpr std::size_t tile_bytes(int rows) {
    return static_cast<std::size_t>(rows) * P::row_elements * sizeof(Bf16);
}

/// Copies rows of one head to tiles of shared memory, `rows` at a time.
template <class P, int rows>
class TileCopies {
public:
    /// The next tile begins with row `first`.
    __device__ TileCopies(Rows<Bf16> source, int head, int head_dim, std::int64_t first)
        : from_(source.at(first + row(), std::int64_t{head} * head_dim + column())) {}

    /// Starts to copy the next tile. `count` of its rows exist; they are `stride` apart. Others,
    /// and columns beyond the head, become zeros.
    __device__ void start(Bf16* tile, std::int64_t stride, int count, int head_dim) {
        const int left = column() < head_dim ? count - row() : 0;
#pragma unroll
        for (int i = 0; i < rows; i += step) {
            start_copy16(tile + P::template offset<rows>(row() + i, column()), from_, i < left);
            from_ += step * stride;
        }
    }

private:
    static constexpr int vectors = P::depth / 8, step = P::threads / vectors;
    static_assert(rows % step == 0);

    __device__ static int row() {
        return static_cast<int>(threadIdx.x) / vectors;
    }
    __device__ static int column() {
        return static_cast<int>(threadIdx.x) % vectors * 8;
    }

    const Bf16* from_;
};

/// One such tile of rows [first, first + count).
template <class P, int rows>
__device__ void start_tile(Bf16* tile, Rows<Bf16> source, int head, int head_dim,
                           std::int64_t first, int count) {
    TileCopies<P, rows>(source, head, head_dim, first).start(tile, source.stride, count, head_dim);
}

/// Writes this warp's sums, times factor[m][0] (row) and factor[m][1] (8 below), to rows of
/// `target` from `first` on, the block's first, of which `count` exist. They go through the warp's
/// rows of the block's `own` tile, which nobody else reads any more, so that a row is written in
/// 16-byte accesses side by side.
template <class P, int M>
__device__ void store_sums(Bf16* own, Rows<Bf16> target, int head, int head_dim, std::int64_t first,
                           int count, const HeadSum<P, M>& sum, const float (&factor)[M][2]) {
    constexpr int rows = block_rows<P, M>, vectors = P::columns / 8, step = 32 / vectors;
    const WarpPlace place = warp_place<P, M>();
    const int begin = place.group * P::columns;
    sync_warp();  // other lanes have read these rows
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < P::columns / 8; ++n) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int row = place.row + 16 * m + 8 * r;
                Bf16* const to = own + P::template offset<rows>(row, begin + place.column + 8 * n);
                *reinterpret_cast<std::uint32_t*>(to) =
                    pack(sum[m][n][2 * r] * factor[m][r], sum[m][n][2 * r + 1] * factor[m][r]);
            }
        }
    }
    sync_warp();
    const int column = begin + place.lane % vectors * 8;
    if (column >= head_dim) return;
#pragma unroll 4
    for (int i = place.lane / vectors; i < 16 * M; i += step) {
        const int row = place.rows + i;
        if (row >= count) break;
        store16(target.at(first + row, std::int64_t{head} * head_dim + column),
                load16(own + P::template offset<rows>(row, column)));
    }
}

}  // namespace fedit::cuda
