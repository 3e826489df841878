// tensor/cuda/optimizer.cuh: kernels over flat fp32 vectors: AdamW, SGD, scaling and filling.
//
// Each operation is rounded once, as on the CPU, so the bits are the CPU back end's: nothing here
// may be contracted to a fused multiply-add (CMake compiles optimizer.cu with --fmad=false).
#pragma once

#include "tensor/adamw_step.h"
#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

template <int N>
__global__ void adamw_kernel(float* x, const float* g, float* m, float* v, std::int64_t n,
                             AdamWStep step) {
    const std::int64_t at = element_of_thread<N>(), count = n - at;
    if (count <= 0) return;
    float value[N], slope[N], first[N], second[N];
    load_part(value, x + at, count, 0);
    load_part(slope, g + at, count, 0);
    load_part(first, m + at, count, 0);
    load_part(second, v + at, count, 0);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        first[i] = first[i] + (slope[i] - first[i]) * step.one_minus_beta1;
        second[i] = second[i] * step.beta2 + slope[i] * slope[i] * step.one_minus_beta2;
        const float root = sqrtf(second[i]) / step.root_of_correction2;
        const float direction = first[i] / (root + step.eps);
        value[i] = value[i] * step.decay - step.step_size * direction;
    }
    store_part(x + at, value, count);
    store_part(m + at, first, count);
    store_part(v + at, second, count);
}

template <int N>
__global__ void sgd_kernel(float* x, const float* g, std::int64_t n, float lr, float weight_decay) {
    const std::int64_t at = element_of_thread<N>(), count = n - at;
    if (count <= 0) return;
    float value[N], slope[N];
    load_part(value, x + at, count, 0);
    load_part(slope, g + at, count, 0);
    for (int i = 0; i < N; ++i) value[i] -= lr * (slope[i] + weight_decay * value[i]);
    store_part(x + at, value, count);
}

template <int N>
__global__ void scale_kernel(float* x, std::int64_t n, float factor) {
    const std::int64_t at = element_of_thread<N>(), count = n - at;
    if (count <= 0) return;
    float value[N];
    load_part(value, x + at, count, 0);
    for (int i = 0; i < N; ++i) value[i] *= factor;
    store_part(x + at, value, count);
}

template <int N>
__global__ void fill_kernel(float* x, std::int64_t n, float with) {
    const std::int64_t at = element_of_thread<N>(), count = n - at;
    if (count <= 0) return;
    float value[N];
    for (int i = 0; i < N; ++i) value[i] = with;
    store_part(x + at, value, count);
}

// ---- launches

template <class Launch>
void launch_adamw(const Launch& launch, float* x, const float* g, float* m, float* v,
                  std::int64_t n, const AdamWStep& step) {
    choose_flat(n, {x, g, m, v}, [&](auto width, const Grid& grid) {
        launch(grid, adamw_kernel<width()>, x, g, m, v, n, step);
    });
}

template <class Launch>
void launch_sgd(const Launch& launch, float* x, const float* g, std::int64_t n, float lr,
                float weight_decay) {
    choose_flat(n, {x, g}, [&](auto width, const Grid& grid) {
        launch(grid, sgd_kernel<width()>, x, g, n, lr, weight_decay);
    });
}

template <class Launch>
void launch_scale(const Launch& launch, float* x, std::int64_t n, float factor) {
    choose_flat(n, {x}, [&](auto width, const Grid& grid) {
        launch(grid, scale_kernel<width()>, x, n, factor);
    });
}

template <class Launch>
void launch_fill(const Launch& launch, float* x, std::int64_t n, float value) {
    choose_flat(n, {x}, [&](auto width, const Grid& grid) {
        launch(grid, fill_kernel<width()>, x, n, value);
    });
}

}  // namespace fedit::cuda
