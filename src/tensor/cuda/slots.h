// tensor/cuda/slots.h: cohort members whose rows, factors and dropout keys are in device memory,
// and the scratch memory that their gradients need.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

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
    std::uint32_t module = 0;
    const std::uint64_t* slot_key = nullptr;    ///< one a member
    const std::int64_t* row_counter = nullptr;  ///< one a row

    bool drops() const { return threshold > 0; }
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

/// Bytes of lora's scratch memory.
constexpr std::size_t lora_scratch_bytes(std::int64_t rows, std::int64_t in,
                                         std::int64_t largest_rank) {
    return static_cast<std::size_t>(lora_slice_floats(rows, in, largest_rank)) * sizeof(float);
}

/// Bytes of lora_backward's scratch memory: shares of ds, then those of db and later of da.
constexpr std::size_t lora_backward_scratch_bytes(std::int64_t rows, std::int64_t in,
                                                  std::int64_t out, std::int64_t slots,
                                                  std::int64_t largest_rank) {
    const std::int64_t chunks = rows / gradient_chunk + slots;
    const std::int64_t gradients = chunks * largest_rank * std::max(in, out);
    return static_cast<std::size_t>(lora_slice_floats(rows, out, largest_rank) + gradients) *
           sizeof(float);
}

}  // namespace fedit::cuda
