// tensor/cpu/panels.h: how large packed panels are, whatever the vector length.
#pragma once

#include <cstdint>

namespace fedit::cpu {

/// Columns of the widest panel (two vectors of AVX-512).
inline constexpr std::int64_t max_panel_cols = 32;

/// Floats of scratch for the panels of a depth x cols operand.
constexpr std::int64_t panel_floats(std::int64_t depth, std::int64_t cols) {
    return depth * ((cols + max_panel_cols - 1) / max_panel_cols * max_panel_cols);
}

}  // namespace fedit::cpu
