// tensor/cpu/panel_blocks.h: how a product with panels is divided. Of this the depth decides bits.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fedit/tensor/tensor.h"

namespace fedit::cpu {

/// Depth of a block: so much of one panel and of one strip of rows stay in L1 (22 kB of AVX2).
inline constexpr std::int64_t panel_block_depth = 256;
/// Rows of a task at most: so many of that depth stay in L2 (200 kB).
inline constexpr std::int64_t panel_block_rows = 192;
/// Columns of a task at most: so much of the result stays near (800 kB).
inline constexpr std::int64_t panel_block_cols = 1024;
/// Rows of a task at least, where there are that many.
inline constexpr std::int64_t fewest_block_rows = 48;
/// Rows of x that are packed at a time for a weight's gradient: 8 MiB of panels.
constexpr std::int64_t outer_rows(std::int64_t cols) {
    return std::max<std::int64_t>((2 << 20) / cols / panel_block_depth, 1) * panel_block_depth;
}

/// Floats of a thread's strips: whole strips of the widest tile.
inline constexpr std::int64_t strip_floats = (panel_block_rows + 12) * panel_block_depth;

/// The rows and columns of a result that one task makes.
struct ResultBlock {
    std::int64_t row, col, rows, cols;

    TensorView of(TensorView result) const {
        return result.row_range(row, rows).columns(col, cols);
    }
};

/// The tasks of one product: blocks of rows times blocks of columns.
class PanelTasks {
public:
    PanelTasks(std::int64_t rows, std::int64_t cols, int threads, std::int64_t strip_rows,
               std::int64_t panel_cols)
        : rows_(rows), cols_(cols) {
        const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
        // As many for every thread, if the rows are enough for that.
        const std::int64_t even = ceil_div(ceil_div(rows, panel_block_rows), threads) * threads;
        const std::int64_t count = std::min(even, ceil_div(rows, fewest_block_rows));
        block_rows_ = ceil_div(ceil_div(rows, count), strip_rows) * strip_rows;
        row_blocks_ = ceil_div(rows, block_rows_);
        const std::int64_t parts = std::max(ceil_div(cols, panel_block_cols),
                                            count == even ? 1 : ceil_div(4 * threads, row_blocks_));
        block_cols_ = ceil_div(ceil_div(cols, parts), panel_cols) * panel_cols;
        col_blocks_ = ceil_div(cols, block_cols_);
    }

    std::int64_t count() const { return row_blocks_ * col_blocks_; }
    ResultBlock block(std::int64_t task) const {
        const std::int64_t row = task / col_blocks_ * block_rows_;
        const std::int64_t col = task % col_blocks_ * block_cols_;
        return {row, col, std::min(block_rows_, rows_ - row), std::min(block_cols_, cols_ - col)};
    }

private:
    std::int64_t rows_, cols_, row_blocks_, block_rows_, col_blocks_, block_cols_;
};

}  // namespace fedit::cpu
