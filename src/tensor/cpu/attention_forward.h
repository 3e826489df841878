// tensor/cpu/attention_forward.h: working memory of attention, and what a head's queries see.
#pragma once

#include <cstdint>

#include "tensor/cpu/attention_blocks.h"
#include "tensor/cpu/operands.h"
#include "tensor/cpu/panels.h"

namespace fedit::cpu {

/// A head's keys, the place of query 0 among them, and the window.
struct HeadMask {
    std::int64_t keys, position, window;
};

/// Scratch of one task, cut from one piece. `cols` is head_dim rounded up to whole panels.
struct ForwardMemory {
    ForwardMemory(float* memory, std::int64_t length, std::int64_t head_dim)
        : cols(panel_floats(1, head_dim)),
          keys(memory),
          values(keys + aligned_floats(panel_floats(head_dim, length))),
          scores(values + aligned_floats(length * cols)),
          sum(scores + query_block * key_block),
          query_words(sum + query_block * cols),
          score_words(query_words + query_block * word_stride(Operands::bf16, cols)) {}

    static std::int64_t floats(std::int64_t length, std::int64_t head_dim) {
        const std::int64_t cols = panel_floats(1, head_dim);
        return aligned_floats(panel_floats(head_dim, length)) + aligned_floats(length * cols) +
               query_block * (key_block + cols + word_stride(Operands::bf16, cols) +
                              word_stride(Operands::bf16, key_block));
    }

    std::int64_t cols;
    float* keys;    ///< panels of K^T / sqrt(d)
    float* values;  ///< panels of V
    float* scores;  ///< query_block x key_block
    float* sum;     ///< weighted sums of values, query_block x cols
    /// Words of a block's rows of q and of its scores, where these are not multiplied themselves.
    float *query_words, *score_words;
};

}  // namespace fedit::cpu
