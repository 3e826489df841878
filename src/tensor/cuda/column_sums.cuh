// tensor/cuda/column_sums.cuh: kernels that sum over rows: gradients of biases and of norms' gains.
//
// Partial sums of fixed groups of rows, each in row order, then the partial sums in order.
#pragma once

#include "tensor/cuda/norm.cuh"

namespace fedit::cuda {

/// 1 / rms of each part of `width` columns, a warp each.
template <class T, int N>
__global__ void inverse_rms_kernel(float* inverse, Rows<T> x, std::int64_t parts_of_row,
                                   std::int64_t parts, std::int64_t width, float eps) {
    const std::int64_t part = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
    const std::int64_t t = part / parts_of_row, base = part % parts_of_row * width;
    const std::int64_t end = part < parts ? width : 0;  // all lanes reach the sum
    float v[N], squares = 0;
    for (std::int64_t j = threadIdx.x % 32 * N; j < end; j += 32 * N) {
        load(v, x.at(t, base + j));
        for (int i = 0; i < N; ++i) squares += v[i] * v[i];
    }
    const float r = inverse_rms(warp_sum(squares), width, eps);
    if (threadIdx.x % 32 == 0 && part < parts) inverse[part] = r;
}

/// partial[g][j] = sum over the parts of group g, in order, of dy_j; if `inverse` is not null, of
/// dy_j x_j inverse. Part p is columns [p % parts_of_row * width, + width) of row p / parts_of_row.
template <class T, int N>
__global__ void partial_sums_kernel(float* partial, Rows<T> dy, Rows<T> x, const float* inverse,
                                    std::int64_t parts_of_row, std::int64_t parts,
                                    std::int64_t width, std::int64_t group_parts, unsigned blocks) {
    const auto [group, j] = vector_of_thread<N>(blocks);
    if (j >= width) return;
    const std::int64_t begin = group * group_parts;
    const std::int64_t end = begin + group_parts < parts ? begin + group_parts : parts;
    float sum[N] = {}, v[N], other[N];
#pragma unroll 4
    for (std::int64_t p = begin; p < end; ++p) {
        const std::int64_t t = p / parts_of_row, column = p % parts_of_row * width + j;
        load(v, dy.at(t, column));
        if (inverse != nullptr) {
            load(other, x.at(t, column));
            for (int i = 0; i < N; ++i) v[i] *= other[i] * inverse[p];
        }
        for (int i = 0; i < N; ++i) sum[i] += v[i];
    }
    store(partial + group * width + j, sum);
}

/// sum[j] += the partial sums in order.
__global__ void add_partial_sums_kernel(float* sum, const float* partial, std::int64_t groups,
                                        std::int64_t width) {
    const std::int64_t j = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (j >= width) return;
    float total = sum[j];
#pragma unroll 8
    for (std::int64_t g = 0; g < groups; ++g) total += partial[g * width + j];
    sum[j] = total;
}

// ---- launches

/// sum[j] += over all parts, dy_j; or dy_j x_j inverse, unless x.data is null.
template <class Launch>
void launch_part_sums(const Launch& launch, float* sum, std::int64_t width, TensorView dy,
                      TensorView x, const float* inverse, float* partial) {
    const std::int64_t parts_of_row = dy.cols / width, parts = dy.rows * parts_of_row;
    const std::int64_t group = rows_of_partial_sum(parts), groups = ceil_div(parts, group);
    choose({part_view(dy, width), part_view(x, width), vector_view(partial, width)},
           [&](auto type, auto n) {
               using T = decltype(type);
               const RowBlocks blocks(width / n());
               launch(blocks.grid(groups), partial_sums_kernel<T, n()>, partial, rows<T>(dy),
                      rows<T>(x), inverse, parts_of_row, parts, width, group, blocks.count);
           });
    launch(Grid{.x = ceil_div(width, 128), .threads = 128}, add_partial_sums_kernel, sum, partial,
           groups, width);
}

template <class Launch>
void launch_column_sums(const Launch& launch, float* sum, TensorView x, float* scratch) {
    if (x.rows == 0) return;
    launch_part_sums(launch, sum, x.cols, x, {}, nullptr, scratch);
}

template <class Launch>
void launch_rms_norm_dgain(const Launch& launch, float* dgain, std::int64_t width, TensorView dy,
                           TensorView x, float eps, float* scratch) {
    if (x.rows == 0) return;
    const std::int64_t parts_of_row = x.cols / width, parts = x.rows * parts_of_row;
    float* const inverse = scratch + column_sums_scratch(parts, width);
    choose({part_view(x, width)}, [&](auto type, auto n) {
        using T = decltype(type);
        launch(Grid{.x = ceil_div(parts, 4), .threads = 128}, inverse_rms_kernel<T, n()>, inverse,
               rows<T>(x), parts_of_row, parts, width, eps);
    });
    launch_part_sums(launch, dgain, width, dy, x, inverse, scratch);
}

}  // namespace fedit::cuda
