// tensor/cuda/lora_gradient.cuh: the sum of the chunks' shares of an adapter's gradient, in order.
// Chunks count from the member's first row, so its bits do not depend on who runs beside it.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

inline constexpr int add_threads = 256;

/// da += factor * the chunks' shares, or db += scale * them. Grid: ceil(largest rank * depth /
/// add_threads) x slots.
template <LoraSide side>
__global__ void __launch_bounds__(add_threads)
    lora_add_gradient_kernel(GradientShares a, float factor) {
    const std::int64_t i = std::int64_t{blockIdx.x} * add_threads + threadIdx.x;
    const std::int64_t number = blockIdx.y;
    const LoraSlot& slot = a.slots.adapters[number];
    const std::int64_t begin = a.slots.row_begin[number];
    const std::int64_t rows = a.slots.row_begin[number + 1] - begin;
    if (i >= slot.rank * a.depth || rows == 0) return;
    const std::int64_t chunks = (rows + gradient_chunk - 1) / gradient_chunk;
    const std::int64_t distance = a.slots.largest_rank * a.depth;
    const float* from = a.chunk(begin / gradient_chunk + number) + i;
    float sum = 0;
#pragma unroll 8
    for (std::int64_t c = 0; c < chunks; ++c) sum += from[c * distance];
    if constexpr (side == LoraSide::input) {
        slot.da[i] += factor * sum;
    } else {
        slot.db[i] += slot.scale * sum;
    }
}

}  // namespace fedit::cuda
