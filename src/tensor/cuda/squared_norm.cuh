// tensor/cuda/squared_norm.cuh: kernels of the sum of squares, in double, with the CPU's bits.
//
// The order is the CPU back end's: in each block of 4096 elements eight sums, of the elements i
// with i % 8 = k in order; the eight in order; then the blocks in order. The square of a float is
// exact in double, so a fused multiply-add changes nothing. Differences are rounded to float.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// partial[b] = the sum of block b. Eight lanes a block. x0 is not read unless `Distance`.
template <bool Distance>
__global__ void squared_norm_kernel(double* partial, const float* x, const float* x0,
                                    std::int64_t n) {
    constexpr int sums = 8;
    const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    const std::int64_t block = thread / sums, begin = block * squared_norm_block;
    const std::int64_t end = begin + squared_norm_block < n ? begin + squared_norm_block : n;
    double sum = 0;
#pragma unroll 8
    for (std::int64_t i = begin + thread % sums; i < end; i += sums) {
        const double value = Distance ? x[i] - x0[i] : x[i];
        sum += value * value;
    }
    const int first = static_cast<int>(threadIdx.x % 32) / sums * sums;
    double total = 0;
    for (int k = 0; k < sums; ++k) total += shfl(sum, first + k);
    if (thread % sums == 0 && begin < n) partial[block] = total;
}

/// *sum = the partial sums in order. One block: all threads fetch, the first adds.
__global__ void sum_in_order_kernel(double* sum, const double* partial, std::int64_t count) {
    constexpr int tile = 1024;
    __shared__ SharedArray<double, tile> values;
    double total = 0;
    for (std::int64_t begin = 0; begin < count; begin += tile) {
        const int here = static_cast<int>(count - begin < tile ? count - begin : tile);
        __syncthreads();  // the last tile has been added
        for (int i = static_cast<int>(threadIdx.x); i < here; i += static_cast<int>(blockDim.x)) {
            values[i] = partial[begin + i];
        }
        __syncthreads();
        if (threadIdx.x == 0) {
#pragma unroll 16
            for (int i = 0; i < here; ++i) total += values[i];
        }
    }
    if (threadIdx.x == 0) *sum = total;
}

template <class Launch>
void launch_squared_norm(const Launch& launch, double* sum, const float* x, const float* x0,
                         std::int64_t n, double* scratch) {
    const std::int64_t blocks = squared_norm_scratch(n);
    if (blocks > 0) {
        launch(Grid{.x = ceil_div(blocks, 16), .threads = 128},
               x0 == nullptr ? squared_norm_kernel<false> : squared_norm_kernel<true>, scratch, x,
               x0, n);
    }
    launch(Grid{.x = 1, .threads = 256}, sum_in_order_kernel, sum, scratch, blocks);
}

}  // namespace fedit::cuda
