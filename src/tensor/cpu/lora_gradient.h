// tensor/cpu/lora_gradient.h: how the sums over rows of adapters' gradients are cut.
#pragma once

#include <cstdint>

namespace fedit::cpu {

/// Rows summed in registers before the sum goes to memory; fixed, so it decides bits.
inline constexpr std::int64_t gradient_block_rows = 128;
/// Columns of a task.
inline constexpr std::int64_t gradient_block_cols = 128;

/// Stored keep bits of rows, and what kept values are multiplied by. Null: nothing is dropped.
struct KeepBits {
    const std::uint8_t* bytes = nullptr;
    std::int64_t stride = 0;
    float factor = 1;
};

}  // namespace fedit::cpu
