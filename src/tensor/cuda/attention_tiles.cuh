// tensor/cuda/attention_tiles.cuh: tiles of bf16 rows in shared memory and the products of
// attention on tensor cores. A warp owns M times 16 rows of its block's tile: with M = 2 it reads
// the other side's rows half as often, which is what shared memory's bandwidth asks for.
//
// Lane l holds of a 16 x 8 tile c of mma: c[i] at row l / 4 + 8 (i / 2), column 2 (l % 4) + i % 2.
// This is also how the left operand wants two such tiles, so weights go from one product to the
// next in registers.
#pragma once

#include "tensor/cuda/attention_arguments.cuh"

namespace fedit::cuda {

/// Sizes for heads of up to D columns; the rest of a head is zeros.
template <int D>
struct HeadTile {
    static constexpr int stride = D + 8;  ///< rows start 4 banks apart
    /// Columns of the sums that one warp holds. A wider head is divided among groups of 4 warps,
    /// which all make the scores: two sums of 256 columns would not fit into registers.
    static constexpr int columns = D < 128 ? D : 128;
    static constexpr int groups = D / columns;
    static constexpr int threads = 128 * groups;
    static constexpr std::size_t bytes(int rows) {
        return static_cast<std::size_t>(rows) * stride * sizeof(Bf16);
    }
};

/// The columns of the sums of M times 16 rows that a thread holds a part of.
template <int D, int M>
using HeadSum = float[M][HeadTile<D>::columns / 8][4];

/// A number that all lanes of a warp share, so that the compiler may keep it in a register of the
/// warp, and knows that branches on it do not divide lanes.
template <class T>
__device__ T uniform(T x) {
    return shfl(x, 0);
}

/// This thread's part of a block, whose 4 warps (of each group) own M times 16 rows each.
struct WarpPlace {
    int lane;
    int rows;         ///< the first row of this warp in its block's tile
    int group;        ///< of warps, that owns a HeadTile's columns from its own times `group` on
    int row, column;  ///< of c[0] in the first of its M tiles; c[2] lies 8 rows below
};

template <int M>
__device__ WarpPlace warp_place() {
    const int lane = own_lane();
    const int warp = uniform(static_cast<int>(threadIdx.x) / 32);
    const int rows = warp % 4 * (16 * M);
    return {lane, rows, warp / 4, rows + lane / 4, lane % 4 * 2};
}

/// Copies rows of one head to tiles of shared memory, `rows` at a time.
template <int D, int rows>
class TileCopies {
public:
    /// The next tile begins with row `first`.
    __device__ TileCopies(Rows<Bf16> source, int head, int head_dim, std::int64_t first)
        : from_(source.at(first + row(), std::int64_t{head} * head_dim + column())) {}

    /// Starts to copy the next tile. `count` of its rows exist; they are `stride` apart. Others,
    /// and columns beyond the head, become zeros.
    __device__ void start(Bf16* tile, std::int64_t stride, int count, int head_dim) {
        const int left = column() < head_dim ? count - row() : 0;
        Bf16* const to = tile + row() * HeadTile<D>::stride + column();
#pragma unroll
        for (int i = 0; i < rows / step; ++i) {
            start_copy16(to + i * step * HeadTile<D>::stride, from_, i * step < left);
            from_ += step * stride;
        }
    }

private:
    static constexpr int vectors = D / 8, step = HeadTile<D>::threads / vectors;
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
template <int D, int rows>
__device__ void start_tile(Bf16* tile, Rows<Bf16> source, int head, int head_dim,
                           std::int64_t first, int count) {
    TileCopies<D, rows>(source, head, head_dim, first).start(tile, source.stride, count, head_dim);
}

/// x (16 M x N) += own (this warp's 16 M rows) other^T (N rows).
template <int D, int N, int M>
__device__ void rows_times_rows(float (&x)[M][N / 8][4], const Bf16* own, const Bf16* other) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    own += lane % 16 * HeadTile<D>::stride + lane / 16 * 8;
    other += (lane % 8 + lane / 16 * 8) * HeadTile<D>::stride + lane / 8 % 2 * 8;
#pragma unroll(M == 1 ? 4 : D / 16)  // unrolled fully, the kernel of dk and dv spills registers
    for (int d = 0; d < D; d += 16) {
        std::uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; ++m) ldmatrix(a[m], own + 16 * m * HeadTile<D>::stride + d);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            std::uint32_t b[4];
            ldmatrix(b, other + n * HeadTile<D>::stride + d);
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma(x[m][n / 8], a[m], b[0], b[1]);
                mma(x[m][n / 8 + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/// Weights (16 M x N) as mma's left operand: word w[m][n / 16] [r + 2 c] has the row of c[2 r] of
/// the tile (m, n / 8 + c).
template <int M, int N>
using Weights = std::uint32_t[M][N / 16][4];

/// sum (16 M x its columns) += weights (16 M x N) other (N rows, those columns).
template <int D, int N, int M>
__device__ void weights_times_rows(HeadSum<D, M>& sum, const Weights<M, N>& weights,
                                   const Bf16* other) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    other += lane % 16 * HeadTile<D>::stride + lane / 16 * 8;
#pragma unroll
    for (int n = 0; n < N; n += 16) {
#pragma unroll
        for (int d = 0; d < HeadTile<D>::columns; d += 16) {
            std::uint32_t b[4];
            ldmatrix_transposed(b, other + n * HeadTile<D>::stride + d);
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma(sum[m][d / 8], weights[m][n / 16], b[0], b[1]);
                mma(sum[m][d / 8 + 1], weights[m][n / 16], b[2], b[3]);
            }
        }
    }
}

/// Writes this warp's sums, times factor[m][0] (row) and factor[m][1] (8 below), to rows of
/// `target` from `first` on, of which `count` exist. They go through `own`, the warp's rows of a
/// tile that nobody else reads any more, so that a row is written in 16-byte accesses side by side.
template <int D, int M>
__device__ void store_sums(Bf16* own, Rows<Bf16> target, int head, int head_dim, std::int64_t first,
                           int count, const HeadSum<D, M>& sum, const float (&factor)[M][2]) {
    constexpr int vectors = HeadTile<D>::columns / 8, step = 32 / vectors;
    const WarpPlace place = warp_place<M>();
    const int begin = place.group * HeadTile<D>::columns;
    own += begin;
    Bf16* const to = own + place.lane / 4 * HeadTile<D>::stride + place.column;
    sync_warp();  // other lanes have read these rows
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < HeadTile<D>::columns / 8; ++n) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                *reinterpret_cast<std::uint32_t*>(to + (16 * m + 8 * r) * HeadTile<D>::stride +
                                                  8 * n) =
                    pack(sum[m][n][2 * r] * factor[m][r], sum[m][n][2 * r + 1] * factor[m][r]);
            }
        }
    }
    sync_warp();
    const int column = place.lane % vectors * 8;
    if (begin + column >= head_dim) return;
#pragma unroll 4
    for (int row = place.lane / vectors; row < 16 * M && row < count; row += step) {
        store16(target.at(first + row, std::int64_t{head} * head_dim + begin + column),
                load16(own + row * HeadTile<D>::stride + column));
    }
}

}  // namespace fedit::cuda
