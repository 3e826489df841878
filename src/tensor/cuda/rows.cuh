// tensor/cuda/rows.cuh: what kernels over rows share: vector accesses, sums in a fixed order, and
// the choice of element type and vector width at launch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "fedit/tensor/tensor.h"
#include "tensor/cuda/launch.h"
#include "tensor/cuda/scratch.h"

namespace fedit::cuda {

inline constexpr float log2_e = 1.44269504F;

/// A matrix in a kernel's arguments; null data means that it is not wanted.
template <class T>
struct Rows {
    T* data;
    std::int64_t stride;

    __device__ T* at(std::int64_t row, std::int64_t column) const {
        return data + row * stride + column;
    }
};

// ---- N neighbouring elements, 16 bytes an access if N allows it

template <int N>
__device__ void load(float (&x)[N], const float* from) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const uint4 v = load16(from + i);
            x[i] = float_of_bits(v.x), x[i + 1] = float_of_bits(v.y);
            x[i + 2] = float_of_bits(v.z), x[i + 3] = float_of_bits(v.w);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = from[i];
    }
}

template <int N>
__device__ void load(float (&x)[N], const Bf16* from) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            const uint4 v = load16(from + i);
            x[i] = low_half(v.x), x[i + 1] = high_half(v.x);
            x[i + 2] = low_half(v.y), x[i + 3] = high_half(v.y);
            x[i + 4] = low_half(v.z), x[i + 5] = high_half(v.z);
            x[i + 6] = low_half(v.w), x[i + 7] = high_half(v.w);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = to_float(from[i]);
    }
}

template <int N>
__device__ void store(float* to, const float (&x)[N]) {
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            store16(to + i, uint4{bits_of_float(x[i]), bits_of_float(x[i + 1]),
                                  bits_of_float(x[i + 2]), bits_of_float(x[i + 3])});
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) to[i] = x[i];
    }
}

template <int N>
__device__ void store(Bf16* to, const float (&x)[N]) {
    if constexpr (N % 8 == 0) {
#pragma unroll
        for (int i = 0; i < N; i += 8) {
            store16(to + i, uint4{pack(x[i], x[i + 1]), pack(x[i + 2], x[i + 3]),
                                  pack(x[i + 4], x[i + 5]), pack(x[i + 6], x[i + 7])});
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) to[i] = to_bf16(x[i]);
    }
}

/// The first `count` of N elements, as a vector if that is all; the others are `missing`.
template <int N, class T>
__device__ void load_part(float (&x)[N], const T* from, std::int64_t count, float missing) {
    if (count >= N) {
        load(x, from);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = i < count ? to_float(from[i]) : missing;
    }
}

template <int N, class T>
__device__ void store_part(T* to, const float (&x)[N], std::int64_t count) {
    if (count >= N) {
        store(to, x);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float one[1] = {x[i]};
            if (i < count) store(to + i, one);
        }
    }
}

/// What a stored value will be when it is read again.
template <class T>
__device__ float rounded(float x) {
    if constexpr (std::is_same_v<T, Bf16>) {
        return to_float(to_bf16(x));
    } else {
        return x;
    }
}

// ---- a thread's own vector

/// A thread's vector in a matrix whose rows are `blocks` blocks long.
struct Place {
    std::int64_t row, column;
};
template <int N>
__device__ Place vector_of_thread(unsigned blocks) {
    return {blockIdx.x / blocks,
            (std::int64_t{blockIdx.x % blocks} * blockDim.x + threadIdx.x) * N};
}

/// The first element of this thread's vector of N.
template <int N>
__device__ std::int64_t element_of_thread() {
    return (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
}

// ---- sums whose order is a function of the number of threads alone

/// Sum over the lanes of a warp; every lane gets it.
template <class T>
__device__ T warp_sum(T x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x += shfl_xor(x, mask);
    return x;
}

/// Sum over the block: a tree in each warp, then the warps in order; every thread gets it.
template <class T>
__device__ T block_sum(T x) {
    __shared__ SharedArray<T, 32> part;
    x = warp_sum(x);
    __syncthreads();  // the readers of an earlier sum are done
    if (threadIdx.x % 32 == 0) part[static_cast<int>(threadIdx.x / 32)] = x;
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x / 32); ++i) sum += part[i];
    return sum;
}

// ---- launches

/// 16 bytes of T, the width of an aligned access.
template <class T>
inline constexpr int full_width = static_cast<int>(16 / sizeof(T));

template <int N>
using Width = std::integral_constant<int, N>;

template <class T>
Rows<T> rows(TensorView view) {
    return {static_cast<T*>(view.data), view.stride};
}

inline bool is_aligned(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

/// Whether every row consists of whole, 16-byte aligned vectors of `width` elements. A view that
/// is not wanted does not object.
inline bool fits(TensorView view, int width) {
    if (view.data == nullptr) return true;
    const auto row_bytes = view.stride * static_cast<std::int64_t>(size_of(view.dtype));
    return is_aligned(view.data) && row_bytes % 16 == 0 && view.cols % width == 0;
}

/// Each part of a row as a row of its own, for `choose`.
inline TensorView part_view(TensorView x, std::int64_t width) {
    return {x.data, x.dtype, x.rows, width, x.stride};
}

/// A vector of fp32 as a view that `choose` can ask.
inline TensorView vector_view(const float* data, std::int64_t count) {
    return {const_cast<float*>(data), Dtype::fp32, 1, count, ceil_div(count, 4) * 4};
}

/// Calls body(T(), Width<N>()) for the element type of the first view: N is 16 bytes of it where
/// all views fit, else 1.
template <class Body>
void choose(std::initializer_list<TensorView> views, const Body& body) {
    const auto choose_width = [&](auto type) {
        using T = decltype(type);
        const bool fit = std::all_of(views.begin(), views.end(),
                                     [](TensorView view) { return fits(view, full_width<T>); });
        if (fit) {
            body(type, Width<full_width<T>>());
        } else {
            body(type, Width<1>());
        }
    };
    if (views.begin()->dtype == Dtype::fp32) {
        choose_width(float());
    } else {
        choose_width(Bf16());
    }
}

/// Calls body(Y(), X(), Width<N>()) for two views that may differ in type: N is 8, or 4 where both
/// are fp32, if both fit, else 1.
template <class Body>
void choose_pair(TensorView y, TensorView x, const Body& body) {
    const auto choose_width = [&](auto to, auto from) {
        constexpr bool narrow = sizeof(to) + sizeof(from) == 2 * sizeof(float);
        using Full = Width<narrow ? 4 : 8>;
        if (fits(y, Full()) && fits(x, Full())) {
            body(to, from, Full());
        } else {
            body(to, from, Width<1>());
        }
    };
    const auto choose_from = [&](auto to) {
        if (x.dtype == Dtype::fp32) {
            choose_width(to, float());
        } else {
            choose_width(to, Bf16());
        }
    };
    if (y.dtype == Dtype::fp32) {
        choose_from(float());
    } else {
        choose_from(Bf16());
    }
}

/// Threads of a block that works on one row of `vectors` vectors: whole warps, at most 256.
inline int row_threads(std::int64_t vectors) {
    return static_cast<int>(std::clamp<std::int64_t>(ceil_div(vectors, 32) * 32, 32, 256));
}

/// The blocks of a launch that gives each vector of a matrix to a thread: `count` a row, of equal
/// size, so that few threads of the last have nothing to do.
struct RowBlocks {
    explicit RowBlocks(std::int64_t vectors)
        : count(static_cast<unsigned>(ceil_div(vectors, 256))),
          threads(row_threads(ceil_div(vectors, count))) {}
    Grid grid(std::int64_t rows) const { return {.x = rows * count, .threads = threads}; }

    unsigned count;
    int threads;
};

/// Calls body(Width<4>(), grid) if all vectors begin at 16 bytes, else body(Width<1>(), grid).
template <class Body>
void choose_flat(std::int64_t n, std::initializer_list<const void*> vectors, const Body& body) {
    if (n == 0) return;
    constexpr int threads = 256;
    if (std::all_of(vectors.begin(), vectors.end(), is_aligned)) {
        body(Width<4>(), Grid{.x = ceil_div(n, 4 * threads), .threads = threads});
    } else {
        body(Width<1>(), Grid{.x = ceil_div(n, threads), .threads = threads});
    }
}

}  // namespace fedit::cuda
