// tensor/cuda/head_norm.cuh: kernels of RMSNorm in each head of a row, and of its backward. A warp
// owns a head.
#pragma once

#include "tensor/cuda/norm.cuh"

namespace fedit::cuda {

/// Heads of a block: a warp each.
constexpr int heads_of_block = 4;

/// y = gain x / rms(x) in each part of `width` columns; `parts` is the number of parts in all rows.
template <class T, int N>
__global__ void head_rms_norm_kernel(Rows<T> y, Rows<T> x, std::int64_t heads, std::int64_t parts,
                                     std::int64_t width, const float* gain, float eps) {
    const std::int64_t part = std::int64_t{blockIdx.x} * heads_of_block + threadIdx.x / 32;
    const std::int64_t t = part / heads, base = part % heads * width;
    const std::int64_t end = part < parts ? width : 0;  // all lanes reach the sum
    float v[N], other[N], squares = 0;
    for (std::int64_t j = threadIdx.x % 32 * N; j < end; j += 32 * N) {
        load(v, x.at(t, base + j));
        for (int i = 0; i < N; ++i) squares += v[i] * v[i];
    }
    const float r = inverse_rms(warp_sum(squares), width, eps);
    for (std::int64_t j = threadIdx.x % 32 * N; j < end; j += 32 * N) {
        load(v, x.at(t, base + j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) v[i] = other[i] * (v[i] * r);
        store(y.at(t, base + j), v);
    }
}

/// With r = 1 / rms and n columns a part: dx = r gain dy - x r^3 / n sum(gain dy x).
template <class T, int N>
__global__ void head_rms_norm_backward_kernel(Rows<T> dx, Rows<T> dy, Rows<T> x, std::int64_t heads,
                                              std::int64_t parts, std::int64_t width,
                                              const float* gain, float eps) {
    const std::int64_t part = std::int64_t{blockIdx.x} * heads_of_block + threadIdx.x / 32;
    const std::int64_t t = part / heads, base = part % heads * width;
    const std::int64_t end = part < parts ? width : 0;
    float v[N], slope[N], other[N], squares = 0, dot = 0;
    for (std::int64_t j = threadIdx.x % 32 * N; j < end; j += 32 * N) {
        load(v, x.at(t, base + j));
        load(slope, dy.at(t, base + j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) {
            squares += v[i] * v[i];
            dot += other[i] * slope[i] * v[i];
        }
    }
    const float r = inverse_rms(warp_sum(squares), width, eps);
    const float along_x = -r * r * r * warp_sum(dot) / static_cast<float>(width);
    for (std::int64_t j = threadIdx.x % 32 * N; j < end; j += 32 * N) {
        load(v, x.at(t, base + j));
        load(slope, dy.at(t, base + j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) v[i] = r * (other[i] * slope[i]) + along_x * v[i];
        store(dx.at(t, base + j), v);
    }
}

template <class Launch>
void launch_head_rms_norm(const Launch& launch, TensorView y, TensorView x, std::int64_t heads,
                          const float* gain, float eps) {
    if (x.rows == 0) return;
    const std::int64_t width = x.cols / heads, parts = x.rows * heads;
    choose({part_view(x, width), part_view(y, width), vector_view(gain, width)},
           [&](auto type, auto n) {
               using T = decltype(type);
               launch(Grid{.x = ceil_div(parts, heads_of_block), .threads = 32 * heads_of_block},
                      head_rms_norm_kernel<T, n()>, rows<T>(y), rows<T>(x), heads, parts, width,
                      gain, eps);
           });
}

template <class Launch>
void launch_head_rms_norm_backward(const Launch& launch, TensorView dx, TensorView dy, TensorView x,
                                   std::int64_t heads, const float* gain, float eps) {
    if (x.rows == 0) return;
    const std::int64_t width = x.cols / heads, parts = x.rows * heads;
    choose(
        {part_view(x, width), part_view(dx, width), part_view(dy, width), vector_view(gain, width)},
        [&](auto type, auto n) {
            using T = decltype(type);
            launch(Grid{.x = ceil_div(parts, heads_of_block), .threads = 32 * heads_of_block},
                   head_rms_norm_backward_kernel<T, n()>, rows<T>(dx), rows<T>(dy), rows<T>(x),
                   heads, parts, width, gain, eps);
        });
}

}  // namespace fedit::cuda
