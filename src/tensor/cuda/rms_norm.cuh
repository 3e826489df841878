// tensor/cuda/rms_norm.cuh: kernels of RMSNorm with its residual addition, and of its backward. A
// block owns a row.
#pragma once

#include "tensor/cuda/norm.cuh"

namespace fedit::cuda {

/// x += residual, unless that is null; y = gain x / rms(x). The norm sees the rounded x, as
/// backward will.
template <class T, int N>
__global__ void rms_norm_kernel(Rows<T> y, Rows<T> x, Rows<T> residual, const float* gain,
                                std::int64_t cols, float eps) {
    const std::int64_t t = blockIdx.x, first = std::int64_t{threadIdx.x} * N,
                       step = std::int64_t{blockDim.x} * N;
    float v[N], other[N], squares = 0;
    for (std::int64_t j = first; j < cols; j += step) {
        load(v, x.at(t, j));
        if (residual.data != nullptr) {
            load(other, residual.at(t, j));
            for (int i = 0; i < N; ++i) v[i] = rounded<T>(v[i] + other[i]);
            store(x.at(t, j), v);
        }
        for (int i = 0; i < N; ++i) squares += v[i] * v[i];
    }
    const float r = inverse_rms(block_sum(squares), cols, eps);
    for (std::int64_t j = first; j < cols; j += step) {
        load(v, x.at(t, j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) v[i] = other[i] * (v[i] * r);
        store(y.at(t, j), v);
    }
}

/// With r = 1 / rms and n columns: dx += r gain dy - x r^3 / n sum(gain dy x).
template <class T, int N>
__global__ void rms_norm_backward_kernel(Rows<T> dx, Rows<T> dy, Rows<T> x, const float* gain,
                                         std::int64_t cols, float eps) {
    const std::int64_t t = blockIdx.x, first = std::int64_t{threadIdx.x} * N,
                       step = std::int64_t{blockDim.x} * N;
    float v[N], slope[N], other[N], squares = 0, dot = 0;
    for (std::int64_t j = first; j < cols; j += step) {
        load(v, x.at(t, j));
        load(slope, dy.at(t, j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) {
            squares += v[i] * v[i];
            dot += other[i] * slope[i] * v[i];
        }
    }
    const float r = inverse_rms(block_sum(squares), cols, eps);
    const float along_x = -r * r * r * block_sum(dot) / static_cast<float>(cols);
    for (std::int64_t j = first; j < cols; j += step) {
        load(v, x.at(t, j));
        load(slope, dy.at(t, j));
        load(other, gain + j);
        for (int i = 0; i < N; ++i) v[i] = r * (other[i] * slope[i]) + along_x * v[i];
        load(other, dx.at(t, j));
        for (int i = 0; i < N; ++i) v[i] += other[i];
        store(dx.at(t, j), v);
    }
}

template <class Launch>
void launch_rms_norm(const Launch& launch, TensorView y, TensorView x, TensorView residual,
                     const float* gain, float eps) {
    if (x.rows == 0) return;
    choose({x, y, residual, vector_view(gain, x.cols)}, [&](auto type, auto n) {
        using T = decltype(type);
        launch(Grid{.x = x.rows, .threads = row_threads(x.cols / n())}, rms_norm_kernel<T, n()>,
               rows<T>(y), rows<T>(x), rows<T>(residual), gain, x.cols, eps);
    });
}

template <class Launch>
void launch_rms_norm_backward(const Launch& launch, TensorView dx, TensorView dy, TensorView x,
                              const float* gain, float eps) {
    if (x.rows == 0) return;
    choose({x, dx, dy, vector_view(gain, x.cols)}, [&](auto type, auto n) {
        using T = decltype(type);
        launch(Grid{.x = x.rows, .threads = row_threads(x.cols / n())},
               rms_norm_backward_kernel<T, n()>, rows<T>(dx), rows<T>(dy), rows<T>(x), gain, x.cols,
               eps);
    });
}

}  // namespace fedit::cuda
