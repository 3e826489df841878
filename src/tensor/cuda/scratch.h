// tensor/cuda/scratch.h: sizes of the scratch that kernels ask for, and where results lie in it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fedit/tensor/backend.h"

namespace fedit::cuda {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

/// Rows whose sum is one partial sum of column_sums: a function of the shape, so part of its bits.
/// There are at most 1024 partial sums, which one thread a column then adds.
constexpr std::int64_t rows_of_partial_sum(std::int64_t rows) {
    return std::max<std::int64_t>(64, ceil_div(rows, 1024));
}
/// Floats.
constexpr std::int64_t column_sums_scratch(std::int64_t rows, std::int64_t cols) {
    return rows == 0 ? 0 : ceil_div(rows, rows_of_partial_sum(rows)) * cols;
}
/// Floats: the partial sums, then 1 / rms of each part.
constexpr std::int64_t rms_norm_dgain_scratch(std::int64_t rows, std::int64_t cols,
                                              std::int64_t width) {
    const std::int64_t parts = rows * (cols / width);
    return column_sums_scratch(parts, width) + parts;
}

/// Doubles, one for each squared_norm_block.
constexpr std::int64_t squared_norm_scratch(std::int64_t n) {
    return ceil_div(n, squared_norm_block);
}

/// The gradients that cross_entropy left in `logits`: the same rows, a bf16 row as far apart in
/// bytes. They are aligned for vector accesses if logits' rows are.
inline TensorView gradient_view(TensorView logits, Dtype gradient) {
    const std::int64_t ratio = gradient == Dtype::bf16 ? 2 : 1;
    return {logits.data, gradient, logits.rows, logits.cols, logits.stride * ratio};
}

}  // namespace fedit::cuda
