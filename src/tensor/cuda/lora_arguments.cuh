// tensor/cuda/lora_arguments.cuh: what the kernels of adapters are given. An adapter's two sides
// take part in the same four products: with input x and output y of the linear layer,
//
//            forward                        backward
//   down     s = drop(x) A^T                ds = scale dy B
//   up       y += scale s B^T               dx += drop'(ds A)
//   gradient                                da += ds^T drop(x), db += scale dy^T s
//
// On tensor cores, the backward products that read the same matrix are one kernel: ds and db read
// dy, da and dx draw the same mask.
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
    std::uint32_t module;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// y += scale s B^T, or drop'(s A) with y the input's side. depth: columns of y.
template <class T>
struct LoraUp {
    Rows<T> y, s;
    DeviceSlots slots;
    std::uint32_t module;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// Shares of da or db, one a chunk of rows. Chunk c is at part + c * largest_rank * depth, laid out
/// as the factor itself is.
struct GradientShares {
    float* part;
    DeviceSlots slots;
    std::int64_t depth;

    __device__ float* chunk(std::int64_t number) const {
        return part + number * slots.largest_rank * depth;
    }
};

/// Shares of s^T drop(x), or s^T x with x the output's side.
template <class T>
struct LoraGradient {
    GradientShares shares;
    Rows<T> s, x;
    std::uint32_t module;
    DeviceDropout dropout;
};

/// Where a gradient has the element of a rank and a column.
template <LoraSide side>
__device__ std::int64_t place_in_factor(std::int64_t rank, std::int64_t column, std::int64_t ranks,
                                        std::int64_t depth) {
    return side == LoraSide::input ? rank * depth + column : column * ranks + rank;
}

}  // namespace fedit::cuda
