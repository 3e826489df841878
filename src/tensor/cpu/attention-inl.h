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
/// keys, as far as the causal mask lets a tile of rows see, rounded up to a panel.
HWY_INLINE void ScoreBlock(float* scores, const AttentionBlock& block, TensorView left,
                           const float* panels) {
    const std::int64_t width = PanelCols(), depth = left.cols;
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const std::int64_t keys = block.keys_seen(i + rows);
        MultiplyFewRows<tile_rows>(rows, (keys + width - 1) / width * width, depth,
                                   {left.row(block.query + i), left.stride, 1},
                                   panels + block.key * depth, depth, scores + i * key_block,
                                   key_block, Result::write);
    }
}

/// sum (rows x cols) += weights (query_block x key_block) times the keys' rows of `panels`, which
/// hold a (length x cols) matrix.
HWY_INLINE void AddOverKeys(float* sum, std::int64_t cols, const AttentionBlock& block,
                            const float* weights, const float* panels, std::int64_t length) {
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const std::int64_t keys = block.keys_seen(i + rows);
        MultiplyFewRows<tile_rows>(rows, cols, keys, {weights + i * key_block, key_block, 1},
                                   panels + block.key * PanelCols(), length, sum + i * cols, cols,
                                   Result::add);
    }
}

/// sum (keys x cols) += weights^T times the block's rows of `panels` (block.rows x cols).
HWY_INLINE void AddOverQueries(float* sum, std::int64_t cols, const AttentionBlock& block,
                               const float* weights, const float* panels) {
    const std::int64_t keys = block.keys_seen(block.rows);
    for (std::int64_t j = 0; j < keys; j += tile_rows) {
        // Queries before the tile's first key do not see it.
        const std::int64_t first = std::max<std::int64_t>(0, block.key + j - block.query);
        MultiplyFewRows<tile_rows>(
            std::min<std::int64_t>(tile_rows, keys - j), cols, block.rows - first,
            {weights + first * key_block + j, 1, key_block}, panels + first * PanelCols(),
            block.rows, sum + (block.key + j) * cols, cols, Result::add);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
