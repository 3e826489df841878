// tensor/cpu/attention_backward.h: operands and working memory of the backward of attention.
#pragma once

#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/attention_blocks.h"
#include "tensor/cpu/operands.h"
#include "tensor/cpu/panels.h"

namespace fedit::cpu {

/// One head, whose operands have the rows of its sequence.
struct BackwardHeadRows {
    TensorView dq, dout, out;
    const float* lse;
    TensorView q;
};

/// Scratch of one task, cut from one piece. `cols` is head_dim rounded up to whole panels.
struct AttentionBackwardMemory {
    AttentionBackwardMemory(float* memory, std::int64_t length, std::int64_t head_dim)
        : cols(panel_floats(1, head_dim)),
          keys_transposed(memory),
          values_transposed(keys_transposed + aligned_floats(panel_floats(head_dim, length))),
          keys(values_transposed + aligned_floats(panel_floats(head_dim, length))),
          dk(keys + length * cols),
          dv(dk + length * cols),
          queries(dv + length * cols),
          douts(queries + query_block * cols),
          dq(douts + query_block * cols),
          weights(dq + query_block * cols),
          dscores(weights + query_block * key_block),
          query_words(dscores + query_block * key_block),
          dout_words(query_words + query_block * word_stride(Operands::bf16, cols)),
          score_words(dout_words + query_block * word_stride(Operands::bf16, cols)) {}

    static std::int64_t floats(std::int64_t length, std::int64_t head_dim) {
        const std::int64_t cols = panel_floats(1, head_dim);
        return 2 * aligned_floats(panel_floats(head_dim, length)) + 3 * length * cols +
               query_block * (3 * cols + 2 * word_stride(Operands::bf16, cols) + 2 * key_block +
                              word_stride(Operands::bf16, key_block));
    }

    std::int64_t cols;
    float* keys_transposed;    ///< panels of K^T / sqrt(d)
    float* values_transposed;  ///< panels of V^T
    float* keys;               ///< panels of K
    float *dk, *dv;            ///< sums over the group's heads, length x cols
    float *queries, *douts;    ///< panels of a block's rows of q and dout
    float* dq;                 ///< query_block x cols
    float *weights, *dscores;  ///< query_block x key_block
    /// Words of a block's rows of q, of dout, and of weights or dscores, where these are not
    /// multiplied themselves.
    float *query_words, *dout_words, *score_words;
};

}  // namespace fedit::cpu
