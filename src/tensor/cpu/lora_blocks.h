// tensor/cpu/lora_blocks.h: how the adapters' products are divided, the same forward and backward.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "fedit/tensor/backend.h"

namespace fedit::cpu {

/// Rows of a task: their input stays in a core's L2 cache. A multiple of every tile's rows.
inline constexpr std::int64_t lora_block_rows = 48;

/// Rows [begin, end) of one slot.
struct RowBlock {
    std::int64_t slot, begin, end;
};

/// What a block of rows is multiplied with: panels of A^T and of scale B^T; and scratch for the
/// words of its s.
struct LoraBlockPanels {
    const float *a, *b;
    float* s_words;
};

/// Appends `rows` in blocks of at most `size`.
inline void append_blocks(std::vector<RowBlock>& blocks, const RowBlock& rows, std::int64_t size) {
    for (std::int64_t t = rows.begin; t < rows.end; t += size) {
        blocks.push_back({rows.slot, t, std::min(t + size, rows.end)});
    }
}

/// Blocks start at their slot's first row, so a member's sums do not depend on who runs beside it.
inline std::vector<RowBlock> row_blocks(const Slots& slots, std::span<const LoraSlot> adapters,
                                        std::int64_t size) {
    std::vector<RowBlock> blocks;
    for (std::int64_t slot = 0; slot < slots.count(); ++slot) {
        const auto i = static_cast<std::size_t>(slot);
        if (adapters[i].rank == 0) continue;
        append_blocks(blocks, {slot, slots.row_begin[i], slots.row_begin[i + 1]}, size);
    }
    return blocks;
}

}  // namespace fedit::cpu
