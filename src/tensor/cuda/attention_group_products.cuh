// tensor/cuda/attention_group_products.cuh: the products of attention by groups of four warps,
// which own 64 rows. They read both operands in shared memory, so what a warp reads for itself, and
// the loads for it, are gone; and they go on while threads turn scores into weights. Hopper alone
// has them: a file that compiles kernels includes group_mma.cuh (or its emulation) first.
//
// A tile's columns are divided into panels of 64, as group_mma wants rows.
#pragma once

#include "tensor/cuda/attention_tiles.cuh"

namespace fedit::cuda {

/// Of heads of up to D columns, in blocks of so many groups.
template <int D, int groups>
struct GroupProducts {
    static_assert(D == 64 || D == 128);
    static constexpr int depth = D, columns = D;
    static constexpr int row_warps = 4 * groups, threads = 32 * row_warps;
    static constexpr int row_elements = D;
    static constexpr bool in_background = true;
    static constexpr int panel = 64;  ///< columns; rows of a group too
    template <int M>
    static constexpr int unit_rows = panel;

    template <int rows>
    __device__ static int offset(int row, int column) {
        return (column / panel * rows + row) * panel + (column / 8 ^ row) % 8 * 8 + column % 8;
    }

    __device__ static void wait_for_tiles() {
        wait_for_copies();
        show_to_group_mma();
    }

    /// Starts x (the group's 64 rows x N) = own (its rows of the block's tile) other^T (N rows).
    template <int N, int M>
    __device__ static void rows_times_rows(float (&x)[M][N / 8][4], const Bf16* own,
                                           const WarpPlace& place, const Bf16* other) {
        static_assert(M == 1 && N == panel);
        constexpr int rows = block_rows<GroupProducts, M>;
        own += place.rows / panel * panel * panel;
        hold(x[0]);
        start_group_products();
#pragma unroll
        for (int d = 0; d < D; d += 16) {
            group_mma(x[0], own + d / panel * rows * panel + d % panel,
                      other + d / panel * N * panel + d % panel, d > 0);
        }
        commit_group_products();
    }

    /// Starts sum (64 x D) += weights (64 x N) other (N rows).
    template <int N, int M>
    __device__ static void weights_times_rows(HeadSum<GroupProducts, M>& sum,
                                              const Weights<M, N>& weights,
                                              const WarpPlace& /*place*/, const Bf16* other) {
        static_assert(M == 1);
        hold(sum[0]);
        hold(weights[0]);
        start_group_products();
#pragma unroll
        for (int n = 0; n < N; n += 16) {
#pragma unroll
            for (int d = 0; d < D; d += panel) {
                group_mma(sum[0], d / 8, weights[0][n / 16], other + (d / panel * N + n) * panel);
            }
        }
        commit_group_products();
    }

    /// Until at most the last `pending` products are under way; x is there then.
    template <int pending, int M, int N>
    __device__ static void wait(float (&x)[M][N][4]) {
        static_assert(M == 1);
        wait_for_group_products<pending>();
        hold(x[0]);
    }
    /// Until the group's other warps read its own rows no more.
    __device__ static void wait_for_unit(const WarpPlace& place) {
        sync_group(place.rows / panel);
    }
};

/// Heads of up to 128 columns, on Hopper. Forward, two groups share their keys; backward, whose
/// registers leave room for two groups in all, two small blocks begin and end at different times.
struct ByGroups {
    template <int D>
    using Forward = GroupProducts<D, 2>;
    template <int D>
    using Backward = GroupProducts<D, 1>;
    static constexpr int widest = 128;
};

}  // namespace fedit::cuda
