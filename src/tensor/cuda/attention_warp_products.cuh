// tensor/cuda/attention_warp_products.cuh: the products of attention by single warps, which every
// card since sm_80 has. A warp owns M times 16 rows of its block's tile: with M = 2 it reads the
// other side's rows half as often, which is what shared memory's bandwidth asks for.
#pragma once

#include "tensor/cuda/attention_tiles.cuh"

namespace fedit::cuda {

template <int D>
struct WarpProducts {
    static constexpr int depth = D;
    /// Columns of the sums that one warp holds. A wider head is divided among groups of 4 warps,
    /// which all make the scores: two sums of 256 columns would not fit into registers.
    static constexpr int columns = D < 128 ? D : 128;
    static constexpr int row_warps = 4, threads = 32 * row_warps * (D / columns);
    static constexpr int row_elements = D + 8;  ///< rows start 4 banks apart
    static constexpr bool in_background = false;
    template <int M>
    static constexpr int unit_rows = 16 * M;  ///< that meet the other side's rows together

    /// Where an element of a tile of `rows` rows lies.
    template <int rows>
    __device__ static int offset(int row, int column) {
        return row * row_elements + column;
    }

    /// The copies that this thread started are here, for it, and behind a barrier for the block.
    __device__ static void wait_for_tiles() { wait_for_copies(); }

    /// x (16 M x N) = own (this warp's rows of the block's tile) other^T (N rows).
    template <int N, int M>
    __device__ static void rows_times_rows(float (&x)[M][N / 8][4], const Bf16* own,
                                           const WarpPlace& place, const Bf16* other) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        own += (place.rows + lane % 16) * row_elements + lane / 16 * 8;
        other += (lane % 8 + lane / 16 * 8) * row_elements + lane / 8 % 2 * 8;
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
            for (int n = 0; n < N / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) x[m][n][i] = 0;
            }
        }
#pragma unroll(M == 1 ? 2 : D / 16)  // unrolled fully, the kernel of dk and dv spills registers
        for (int d = 0; d < D; d += 16) {
            std::uint32_t a[M][4];
#pragma unroll
            for (int m = 0; m < M; ++m) ldmatrix(a[m], own + 16 * m * row_elements + d);
#pragma unroll
            for (int n = 0; n < N; n += 16) {
                std::uint32_t b[4];
                ldmatrix(b, other + n * row_elements + d);
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    mma(x[m][n / 8], a[m], b[0], b[1]);
                    mma(x[m][n / 8 + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    /// sum (16 M x its columns) += weights (16 M x N) other (N rows, those columns).
    template <int N, int M>
    __device__ static void weights_times_rows(HeadSum<WarpProducts, M>& sum,
                                              const Weights<M, N>& weights, const WarpPlace& place,
                                              const Bf16* other) {
        const int lane = static_cast<int>(threadIdx.x) % 32;
        other += lane % 16 * row_elements + lane / 16 * 8 + place.group * columns;
#pragma unroll
        for (int n = 0; n < N; n += 16) {
#pragma unroll
            for (int d = 0; d < columns; d += 16) {
                std::uint32_t b[4];
                ldmatrix_transposed(b, other + n * row_elements + d);
#pragma unroll
                for (int m = 0; m < M; ++m) {
                    mma(sum[m][d / 8], weights[m][n / 16], b[0], b[1]);
                    mma(sum[m][d / 8 + 1], weights[m][n / 16], b[2], b[3]);
                }
            }
        }
    }

    /// Products are done when they return.
    template <int pending, int M, int N>
    __device__ static void wait(float (&/*x*/)[M][N][4]) {}
    __device__ static void wait_for_unit(const WarpPlace& /*place*/) {}
};

/// Heads of up to 256 columns, on every card.
struct ByWarps {
    template <int D>
    using Forward = WarpProducts<D>;
    template <int D>
    using Backward = WarpProducts<D>;
    static constexpr int widest = 256;
};

}  // namespace fedit::cuda
