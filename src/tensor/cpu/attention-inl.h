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

/// Calls body(j, seen) for the vectors of a row of scores that hold [first, end): `seen` tells
/// which of the lanes from j on do.
template <class Body>
HWY_INLINE void ForEachSeen(std::int64_t first, std::int64_t end, const Body& body) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    for (std::int64_t j = first / lanes * lanes; j < end; j += lanes) {
        const auto before_end = hn::FirstN(d, static_cast<std::size_t>(end - j));
        const auto unseen =
            hn::FirstN(d, static_cast<std::size_t>(std::max<std::int64_t>(first - j, 0)));
        body(j, hn::AndNot(unseen, before_end));
    }
}

/// Zeros for what lies in a row of `cols` scores outside the vectors of ForEachSeen.
HWY_INLINE void ClearUnseen(float* row, std::int64_t first, std::int64_t end, std::int64_t cols) {
    const std::int64_t lanes = FloatLanes();
    const std::int64_t begin = first / lanes * lanes;
    std::fill_n(row, begin, 0.0F);
    const std::int64_t rest = std::max(begin, (end + lanes - 1) / lanes * lanes);
    std::fill(row + std::min(rest, cols), row + cols, 0.0F);
}

/// scores (query_block x key_block) = the block's rows, `left` (depth columns), times the panels of
/// all keys, as far as the mask lets a tile of rows see, rounded outwards to panels.
template <class O>
HWY_INLINE void ScoreBlock(float* scores, const AttentionBlock& block, const LeftOperand& left,
                           std::int64_t depth, const float* panels) {
    const std::int64_t width = PanelCols(), words = words_of(O::kind, depth);
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const std::int64_t first = block.first_key(i) / width * width;
        const std::int64_t end = (block.keys_end(i + rows - 1) + width - 1) / width * width;
        if (end <= first) continue;
        MultiplyFewRows<O, tile_rows>(rows, end - first, words, left.rows_from(i),
                                      panels + (block.key + first) * words, words,
                                      scores + i * key_block + first, key_block, Result::write);
    }
}

/// Part of a product's depth, in words.
struct WordRange {
    std::int64_t first, end;
};

/// The words of numbers [first, end).
template <class O>
HWY_INLINE WordRange WordsBetween(std::int64_t first, std::int64_t end) {
    if (end <= first) return {0, 0};
    return {O::kind == Operands::fp32 ? first : first / 2, words_of(O::kind, end)};
}

/// sum (rows x cols) += weights (query_block x key_block, as left operand) times the keys' rows of
/// `panels`, which hold a (length x cols) matrix. Weights of unseen keys are zero.
template <class O>
HWY_INLINE void AddOverKeys(float* sum, std::int64_t cols, const AttentionBlock& block,
                            const LeftOperand& weights, const float* panels, std::int64_t length) {
    const std::int64_t key = words_of(O::kind, block.key);
    for (std::int64_t i = 0; i < block.rows; i += tile_rows) {
        const std::int64_t rows = std::min<std::int64_t>(tile_rows, block.rows - i);
        const auto [first, end] = WordsBetween<O>(block.first_key(i), block.keys_end(i + rows - 1));
        if (end <= first) continue;
        MultiplyFewRows<O, tile_rows>(rows, cols, end - first,
                                      weights.rows_from(i).depth_from(first),
                                      panels + (key + first) * PanelCols(),
                                      words_of(O::kind, length), sum + i * cols, cols, Result::add);
    }
}

/// sum (keys x cols) += weights^T (as left operand) times the block's rows of `panels` (block.rows
/// x cols).
template <class O>
HWY_INLINE void AddOverQueries(float* sum, std::int64_t cols, const AttentionBlock& block,
                               const LeftOperand& weights, const float* panels) {
    const std::int64_t keys_end = block.keys_end(block.rows - 1);
    for (std::int64_t j = block.first_key(0) / tile_rows * tile_rows; j < keys_end;
         j += tile_rows) {
        const std::int64_t keys = std::min<std::int64_t>(tile_rows, keys_end - j);
        const auto [first, end] = WordsBetween<O>(block.first_row(j), block.rows_end(j + keys));
        if (end <= first) continue;
        MultiplyFewRows<O, tile_rows>(keys, cols, end - first,
                                      weights.rows_from(j).depth_from(first),
                                      panels + first * PanelCols(), words_of(O::kind, block.rows),
                                      sum + (block.key + j) * cols, cols, Result::add);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
