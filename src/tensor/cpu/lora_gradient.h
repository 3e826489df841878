// tensor/cpu/lora_gradient.h: how the sums over rows of adapters' gradients are cut. All of it
// decides bits, and none depends on threads or on other members.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "fedit/tensor/backend.h"
#include "tensor/cpu/lora_blocks.h"
#include "tensor/cpu/operands.h"

namespace fedit::cpu {

/// Rows of a task, whose sum is a partial gradient.
inline constexpr std::int64_t gradient_group_rows = 2 * lora_block_rows;
/// Floats of partial gradients that are kept at a time, if one is not larger (32 MiB, as logits).
inline constexpr std::int64_t partial_gradients_floats = 8 << 20;
/// Columns of a task of their sum.
inline constexpr std::int64_t gradient_block_cols = 128;

/// The rows of a member are worked on in parts of so many, where a partial gradient has `floats`
/// floats; the sum over a part is added to the gradient.
constexpr std::int64_t part_rows(std::int64_t floats) {
    return gradient_group_rows * std::max<std::int64_t>(partial_gradients_floats / floats, 1);
}

/// Rows between panels of a block of rows: with one more than the block has, the lines of a row lie
/// in different sets of a cache.
inline constexpr std::int64_t block_panel_depth = lora_block_rows + 1;

/// Stored keep bits of rows, and what kept values are multiplied by. Null: nothing is dropped.
struct KeepBits {
    const std::uint8_t* bytes = nullptr;
    std::int64_t stride = 0;
    float factor = 1;
};

/// The operands of one call.
struct LoraBackward {
    TensorView dx, ds, dy, s, x;
    const Slots& slots;
    std::span<const LoraSlot> adapters;
    const Dropout& dropout;
    std::uint32_t module;
    Operands operands;

    const LoraSlot& adapter(std::int64_t slot) const {
        return adapters[static_cast<std::size_t>(slot)];
    }
    /// Floats of a slot's partial gradient: rank x in, then rank x out.
    std::int64_t partial_floats(std::int64_t slot) const {
        return adapter(slot).rank * (x.cols + dy.cols);
    }
};

/// What one task multiplies with, and where its results go.
struct GradientGroup {
    const float *b_panels, *a_panels;
    float *da, *db;      ///< rank x in and rank x out, written
    float* panels;       ///< scratch for the larger of in and out columns
    float* words;        ///< scratch: words of a block of rows of dy, s or ds
    std::uint8_t* keep;  ///< scratch: keep bits of a block of rows
};

}  // namespace fedit::cpu
