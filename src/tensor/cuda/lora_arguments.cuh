// tensor/cuda/lora_arguments.cuh: what the kernels of adapters are given. An adapter's two sides
// take part in the same four products: with input x and output y of the linear layer,
//
//            forward                        backward
//   down     s = drop(x) A^T                ds = scale dy B
//   up       y += scale s B^T               dx += drop'(ds A)
//   gradient                                da += ds^T drop(x), db += scale dy^T s
#pragma once

#include <cstdint>

#include "tensor/cuda/dropout.cuh"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/slots.h"
#include "tensor/cuda/tiles.cuh"

namespace fedit::cuda {

/// The side of the linear layer that a product touches: input (x, dx, A, dropout) or output (y, dy,
/// B, scale).
enum class LoraSide { input, output };

/// A or B as a (rank x depth) matrix.
struct Factor {
    const float* data;
    std::int64_t rank, depth, rank_stride, depth_stride;
    bool vectors;  ///< eight neighbours from a multiple of eight on can be read in 16-byte accesses

    __device__ float at(std::int64_t r, std::int64_t j) const {
        return data[r * rank_stride + j * depth_stride];
    }
};

/// A is (rank x depth) row by row, B (depth x rank).
template <LoraSide side>
__device__ Factor factor_of(const LoraSlot& slot, std::int64_t depth) {
    if constexpr (side == LoraSide::input) {
        const bool aligned = reinterpret_cast<std::uintptr_t>(slot.a) % 16 == 0;
        return {slot.a, slot.rank, depth, depth, 1, aligned && depth % 8 == 0};
    } else {
        return {slot.b, slot.rank, depth, 1, slot.rank, false};
    }
}

/// s (rows x rank) = drop(x) A^T, or scale x B with x the output's side. depth: columns of x.
template <class T>
struct LoraDown {
    Rows<T> s, x;
    DeviceSlots slots;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// y += scale s B^T, or drop'(s A) with y the input's side. depth: columns of y.
template <class T>
struct LoraUp {
    Rows<T> y, s;
    DeviceSlots slots;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// Shares of s^T drop(x), or s^T x with x the output's side, one a chunk of rows. Chunk c is at
/// part + c * largest_rank * depth, (rank x depth) row by row.
template <class T>
struct LoraGradient {
    float* part;
    Rows<T> s, x;
    DeviceSlots slots;
    DeviceDropout dropout;
    std::int64_t depth;

    __device__ float* chunk(std::int64_t number) const {
        return part + number * slots.largest_rank * depth;
    }
};

/// Columns [column, column + 8) of the rows first, first + step, ... of one member, dropped on the
/// input's side; zeros beyond `end` and `depth`. All loads begin before the masks are drawn.
template <LoraSide side, int N>
__device__ void load_vectors(uint4 (&v)[N], Rows<Bf16> x, std::int64_t first, int step,
                             std::int64_t end, std::int64_t column, std::int64_t depth,
                             const DeviceDropout& dropout, std::int64_t slot) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const std::int64_t row = first + i * step;
        v[i] = uint4{0, 0, 0, 0};
        if (row < end && column < depth) v[i] = load16(x.at(row, column));
    }
    if constexpr (side == LoraSide::input) {
        if (dropout.threshold == 0) return;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const std::int64_t row = first + i * step;
            if (row >= end) continue;
            v[i] = drop(v[i], keep_mask(dropout_row(dropout, slot, row), column / 8));
        }
    }
}

}  // namespace fedit::cuda
