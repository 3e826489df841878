// tensor/cuda/fixed_point.cuh: kernels of the order-free sum of updates, and of the screen before
// it.
//
// The integers are those of the CPU (OrderFreeSum, federation/aggregate.h): float to double is
// exact; difference and product are rounded once each; times 2^52 is exact; both conversions round
// to nearest, ties to even. No sum follows a product, so nothing can be contracted (CMake compiles
// fixed_point.cu with --fmad=false, to keep that true). Beyond the screen's bound they would
// differ.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// N words of 64 bits, 16 bytes an access if N allows it.
template <int N>
__device__ void load_words(std::uint64_t (&words)[N], const std::uint64_t* from) {
    if constexpr (N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const uint4 v = load16(from + i);
            words[i] = std::uint64_t{v.y} << 32 | v.x;
            words[i + 1] = std::uint64_t{v.w} << 32 | v.z;
        }
    } else {
        for (int i = 0; i < N; ++i) words[i] = from[i];
    }
}

template <int N>
__device__ void store_words(std::uint64_t* to, const std::uint64_t (&words)[N]) {
    if constexpr (N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            store16(to + i, uint4{static_cast<std::uint32_t>(words[i]),
                                  static_cast<std::uint32_t>(words[i] >> 32),
                                  static_cast<std::uint32_t>(words[i + 1]),
                                  static_cast<std::uint32_t>(words[i + 1] >> 32)});
        }
    } else {
        for (int i = 0; i < N; ++i) to[i] = words[i];
    }
}

/// llrint((x - x0) weight 2^52) modulo 2^64.
__device__ inline std::uint64_t fixed_point(float x, float x0, double weight) {
    const double difference = static_cast<double>(x) - static_cast<double>(x0);
    const double product = difference * weight;
    return static_cast<std::uint64_t>(round_to_integer(product * 0x1p52));
}

/// sum += fixed_point(x, x0, weight).
template <int N>
__global__ void accumulate_fixed_kernel(std::uint64_t* sum, const float* x, const float* x0,
                                        double weight, std::int64_t n) {
    const std::int64_t at = element_of_thread<N>();
    if (at >= n) return;
    if (at + N > n) {
        for (std::int64_t i = at; i < n; ++i) sum[i] += fixed_point(x[i], x0[i], weight);
        return;
    }
    float value[N], origin[N];
    std::uint64_t words[N];
    load(value, x + at);
    load(origin, x0 + at);
    load_words(words, sum + at);
    for (int i = 0; i < N; ++i) words[i] += fixed_point(value[i], origin[i], weight);
    store_words(sum + at, words);
}

__global__ void forget_place_kernel(std::int64_t* place) {
    if (threadIdx.x == 0) *place = -1;
}

/// *place, as an unsigned number, becomes the lowest i for which not |x[i] - x0[i]| < bound.
template <int N>
__global__ void first_beyond_kernel(std::int64_t* place, const float* x, const float* x0,
                                    std::int64_t n, double bound) {
    const std::int64_t at = element_of_thread<N>(), count = n - at;
    if (count <= 0) return;
    float value[N], origin[N] = {};
    load_part(value, x + at, count, 0);
    if (x0 != nullptr) load_part(origin, x0 + at, count, 0);
    for (int i = 0; i < N; ++i) {
        const double difference = static_cast<double>(value[i]) - static_cast<double>(origin[i]);
        if (fabs(difference) < bound || i >= count) continue;
        atomic_min(reinterpret_cast<std::uint64_t*>(place), static_cast<std::uint64_t>(at + i));
        return;
    }
}

// ---- launches

template <class Launch>
void launch_accumulate_fixed(const Launch& launch, std::uint64_t* sum, const float* x,
                             const float* x0, double weight, std::int64_t n) {
    choose_flat(n, {sum, x, x0}, [&](auto width, const Grid& grid) {
        launch(grid, accumulate_fixed_kernel<width()>, sum, x, x0, weight, n);
    });
}

template <class Launch>
void launch_first_beyond(const Launch& launch, std::int64_t* place, const float* x, const float* x0,
                         std::int64_t n, double bound) {
    launch(Grid{.x = 1, .threads = 32}, forget_place_kernel, place);
    choose_flat(n, {x, x0}, [&](auto width, const Grid& grid) {
        launch(grid, first_beyond_kernel<width()>, place, x, x0, n, bound);
    });
}

}  // namespace fedit::cuda
