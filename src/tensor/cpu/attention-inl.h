// tensor/cpu/attention-inl.h: the products of one block of attention; included once a target.
#if defined(FEDIT_TENSOR_CPU_ATTENTION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_ATTENTION_INL_H
#undef FEDIT_TENSOR_CPU_ATTENTION_INL_H
#else
#define FEDIT_TENSOR_CPU_ATTENTION_INL_H
#endif

#include <algorithm>
#include <cstdint>

#include "tensor/cpu/attention_blocks.h"
#include "tensor/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// scores (query_block x key_block) = rows of `left` times the panels (left.cols x keys) of all
/// keys, as far as the mask lets a tile of rows see, rounded outwards to panels.
HWY_INLINE void ScoreBlock(float* scores, const AttentionBlock& block, TensorView left,
                           const float* panels) {
    const std::int64_t width = PanelCols(), depth = left.cols;
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const std::int64_t first = block.first_key(i) / width * width;
        const std::int64_t end = (block.keys_end(i + rows - 1) + width - 1) / width * width;
        if (end <= first) continue;
        MultiplyFewRows<tile_rows>(rows, end - first, depth,
                                   {left.row(block.query + i), left.stride, 1},
                                   panels + (block.key + first) * depth, depth,
                                   scores + i * key_block + first, key_block, Result::write);
    }
}

/// sum (rows x cols) += weights (query_block x key_block) times the keys' rows of `panels`, which
/// hold a (length x cols) matrix.
HWY_INLINE void AddOverKeys(float* sum, std::int64_t cols, const AttentionBlock& block,
                            const float* weights, const float* panels, std::int64_t length) {
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const std::int64_t first = block.first_key(i), end = block.keys_end(i + rows - 1);
        if (end <= first) continue;
        MultiplyFewRows<tile_rows>(
            rows, cols, end - first, {weights + i * key_block + first, key_block, 1},
            panels + (block.key + first) * PanelCols(), length, sum + i * cols, cols, Result::add);
    }
}

/// sum (keys x cols) += weights^T times the block's rows of `panels` (block.rows x cols).
HWY_INLINE void AddOverQueries(float* sum, std::int64_t cols, const AttentionBlock& block,
                               const float* weights, const float* panels) {
    const std::int64_t keys_end = block.keys_end(block.rows - 1);
    for (std::int64_t j = block.first_key(0) / tile_rows * tile_rows; j < keys_end;
         j += tile_rows) {
        const std::int64_t keys = std::min<std::int64_t>(tile_rows, keys_end - j);
        const std::int64_t first = block.first_row(j), end = block.rows_end(j + keys);
        if (end <= first) continue;
        MultiplyFewRows<tile_rows>(keys, cols, end - first,
                                   {weights + first * key_block + j, 1, key_block},
                                   panels + first * PanelCols(), block.rows,
                                   sum + (block.key + j) * cols, cols, Result::add);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
