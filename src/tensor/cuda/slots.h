// tensor/cuda/slots.h: cohort members whose rows, factors and dropout keys are in device memory,
// and the scratch memory that their gradients need.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fedit/tensor/backend.h"

namespace fedit::cuda {

/// Member s has the rows [row_begin[s], row_begin[s + 1]), the first 0. The table of adapters is a
/// copy of the host's; its pointers are device memory as they are.
struct DeviceSlots {
    std::int64_t count = 0;
    const std::int64_t* row_begin = nullptr;  ///< count + 1
    const LoraSlot* adapters = nullptr;       ///< count
    std::int64_t largest_rank = 0;
};

/// As fedit::Dropout. Threshold 0: nothing is dropped, and the pointers are not read.
struct DeviceDropout {
    std::uint32_t threshold = 0;
    float factor = 1;
    const std::uint64_t* slot_key = nullptr;    ///< one a member
    const std::int64_t* row_counter = nullptr;  ///< one a row

    bool drops() const { return threshold > 0; }
};

/// As fedit::LoraLayer. All layers of a call have the same row_begin.
struct DeviceLayer {
    TensorView y, s;
    DeviceSlots slots;
    std::uint32_t module = 0;
    std::int64_t turned_heads = 0;
};

/// Rows of a block on tensor cores, whose share of da and db is summed in one go. Shares are added
/// in order, chunks counted from a member's first row.
inline constexpr int gradient_chunk = 256;
/// Columns of a block of the narrow products on tensor cores, whose share of s or ds is summed in
/// one go; shares are added in order.
inline constexpr int slice_columns = 512;

/// Floats of the shares of s (depth: in) or ds (depth: out); a multiple of 4, for alignment.
constexpr std::int64_t lora_slice_floats(std::int64_t rows, std::int64_t depth,
                                         std::int64_t largest_rank) {
    const std::int64_t slices = (depth + slice_columns - 1) / slice_columns;
    return (slices * rows * largest_rank + 3) / 4 * 4;
}

/// Floats of a layer's shares of da (depth: in) or db (depth: out); a multiple of 4.
constexpr std::int64_t lora_share_floats(std::int64_t rows, std::int64_t depth,
                                         const DeviceSlots& slots) {
    const std::int64_t chunks = rows / gradient_chunk + slots.count;
    return (chunks * slots.largest_rank * depth + 3) / 4 * 4;
}

/// Bytes of lora's scratch memory: the shares of all s.
inline std::size_t lora_scratch_bytes(std::span<const DeviceLayer> layers, TensorView x) {
    std::int64_t floats = 0;
    for (const DeviceLayer& layer : layers) {
        floats += lora_slice_floats(x.rows, x.cols, layer.slots.largest_rank);
    }
    return static_cast<std::size_t>(floats) * sizeof(float);
}

/// Bytes of lora_backward's scratch memory: a layer's shares of ds and of db, or later the shares
/// of all da.
inline std::size_t lora_backward_scratch_bytes(std::span<const DeviceLayer> layers, TensorView x) {
    std::int64_t first = 0, later = 0;
    for (const DeviceLayer& layer : layers) {
        first = std::max(first, lora_slice_floats(x.rows, layer.y.cols, layer.slots.largest_rank) +
                                    lora_share_floats(x.rows, layer.y.cols, layer.slots));
        later += lora_share_floats(x.rows, x.cols, layer.slots);
    }
    return static_cast<std::size_t>(std::max(first, later)) * sizeof(float);
}

}  // namespace fedit::cuda
