// tensor/cpu/attention_backward.cpp: the backward of attention, with the weights computed again
// from lse, block by block.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "tensor/cpu/attention-inl.h"
#include "tensor/cpu/attention_backward.h"
#include "tensor/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

using Memory = AttentionBackwardMemory;

/// Of the keys [first, end) that one row of a block sees scores become weights exp(score - lse),
/// and the gradients of the weights those of the scores, scale * weight * (gradient - dot); the
/// rest of their vectors becomes zero.
HWY_INLINE void WeighRow(float* weights, float* dscores, std::int64_t first, std::int64_t end,
                         float lse, float dot, float scale) {
    const FloatTag d;
    ForEachSeen(first, end, [&](std::int64_t j, auto seen) HWY_ATTR {
        const auto e = ExpOf(d, hn::Sub(hn::Load(d, weights + j), hn::Set(d, lse)));
        const auto w = hn::IfThenElseZero(seen, e);
        const auto slope = hn::Sub(hn::Load(d, dscores + j), hn::Set(d, dot));
        hn::Store(w, d, weights + j);
        const auto gradient = hn::Mul(hn::Mul(w, hn::Set(d, scale)), slope);
        hn::Store(hn::IfThenElseZero(seen, gradient), d, dscores + j);
    });
}

/// A block's rows of q and dout, as left operands.
struct BlockRows {
    LeftOperand q, dout;
};

template <class O>
HWY_INLINE void BackwardBlock(const AttentionBlock& block, const BlockRows& left, std::int64_t keys,
                              std::int64_t head_dim, const float* lse, const float* dots,
                              float scale, const Memory& memory) {
    ScoreBlock<O>(memory.weights, block, left.q, head_dim, memory.keys_transposed);
    ScoreBlock<O>(memory.dscores, block, left.dout, head_dim, memory.values_transposed);
    const std::int64_t seen = block.keys_end(block.rows - 1);
    const TensorView weights = fp32_view(memory.weights, block.rows, key_block).columns(0, seen);
    const TensorView dscores = fp32_view(memory.dscores, block.rows, key_block).columns(0, seen);
    for (std::int64_t i = 0; i < block.rows; ++i) {
        const std::int64_t first = block.first_key(i), end = block.keys_end(i);
        WeighRow(weights.row(i), dscores.row(i), first, end, lse[block.query + i], dots[i], scale);
        ClearUnseen(weights.row(i), first, end, seen);
        ClearUnseen(dscores.row(i), first, end, seen);
    }
    float* const words = memory.score_words;
    AddOverKeys<O>(memory.dq, memory.cols, block, Left<O>(words, dscores), memory.keys, keys);
    AddOverQueries<O>(memory.dv, memory.cols, block, LeftTransposed<O>(words, weights),
                      memory.douts);
    AddOverQueries<O>(memory.dk, memory.cols, block, LeftTransposed<O>(words, dscores),
                      memory.queries);
}

/// Packs the keys and values of one head and clears the sums.
void BeginBackward(Operands operands, const Memory& memory, TensorView k, TensorView v,
                   float scale) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        PackTransposed<O>(memory.keys_transposed, k.floats(), k.stride, k.cols, k.rows, scale);
        PackTransposed<O>(memory.values_transposed, v.floats(), v.stride, v.cols, v.rows, 1.0F);
        PackRows<O>(memory.keys, k.floats(), k.stride, k.rows, k.cols, 1.0F);
    });
    std::fill_n(memory.dk, k.rows * memory.cols, 0.0F);
    std::fill_n(memory.dv, k.rows * memory.cols, 0.0F);
}

/// Queries [query, query + rows) of one head.
template <class O>
HWY_INLINE void BackwardQueries(const BackwardHeadRows& head, std::int64_t query, std::int64_t rows,
                                float scale, std::int64_t window, const Memory& memory) {
    const TensorView q = head.q.row_range(query, rows), dout = head.dout.row_range(query, rows);
    float dots[query_block];
    for (std::int64_t i = 0; i < rows; ++i) {
        const float *a = dout.row(i), *b = head.out.row(query + i);
        dots[i] = SumOver(dout.cols, [&](auto d, std::int64_t j) HWY_ATTR {
            return hn::Mul(hn::LoadU(d, a + j), hn::LoadU(d, b + j));
        });
    }
    PackRows<O>(memory.queries, q.floats(), q.stride, rows, q.cols, 1.0F);
    PackRows<O>(memory.douts, dout.floats(), dout.stride, rows, dout.cols, 1.0F);
    const BlockRows left{Left<O>(memory.query_words, q), Left<O>(memory.dout_words, dout)};
    std::fill_n(memory.dq, rows * memory.cols, 0.0F);
    for (std::int64_t key = first_key_block(query, window); key < query + rows; key += key_block) {
        BackwardBlock<O>({query, rows, key, 0, window}, left, head.q.rows, q.cols, head.lse, dots,
                         scale, memory);
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(memory.dq + i * memory.cols, q.cols, head.dq.row(query + i));
    }
}

void BackwardHead(Operands operands, const BackwardHeadRows& head, float scale, std::int64_t window,
                  const Memory& memory) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        for (std::int64_t query = 0; query < head.q.rows; query += query_block) {
            BackwardQueries<O>(head, query, std::min(query_block, head.q.rows - query), scale,
                               window, memory);
        }
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(BeginBackward);
HWY_EXPORT(BackwardHead);

void CpuBackend::attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                                    TensorView out, const float* lse, TensorView q, TensorView k,
                                    TensorView v, const AttentionShape& shape,
                                    const Sequences& sequences, const Rotary& rotary) {
    check::attention_backward(dq, dk, dv, dout, out, q, k, v, shape, sequences, rotary);
    check::only_fp32("attention_backward", {q, dq});
    const std::vector<AttentionTask> tasks = attention_tasks(sequences, shape);
    const std::int64_t head_dim = shape.head_dim, length = most_keys(tasks);
    const std::int64_t group = shape.heads / shape.kv_heads;
    const std::int64_t thread_floats =
        aligned_floats(AttentionBackwardMemory::floats(length, head_dim));
    float* const memory = scratch_.floats(threads_ * thread_floats);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));

    const Operands operands = operands_for(shape.products);
    const auto begin_backward = HWY_DYNAMIC_DISPATCH(BeginBackward);
    const auto backward_head = HWY_DYNAMIC_DISPATCH(BackwardHead);
    const auto task_count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads_, task_count, [&](std::int64_t i, int thread) noexcept {
        const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
        const AttentionBackwardMemory own(memory + thread * thread_floats, length, head_dim);
        const auto part = [&](TensorView matrix, std::int64_t head) {
            return query_part(matrix, task, head, head_dim);
        };
        begin_backward(operands, own, key_part(k, task, head_dim), key_part(v, task, head_dim),
                       scale);
        for (std::int64_t h = task.kv_head * group; h < (task.kv_head + 1) * group; ++h) {
            backward_head(operands,
                          {part(dq, h), part(dout, h), part(out, h), lse + h * q.rows + task.begin,
                           part(q, h)},
                          scale, shape.window, own);
        }
        const TensorView dk_part = key_part(dk, task, head_dim);
        const TensorView dv_part = key_part(dv, task, head_dim);
        for (std::int64_t t = 0; t < task.length; ++t) {
            std::copy_n(own.dk + t * own.cols, head_dim, dk_part.row(t));
            std::copy_n(own.dv + t * own.cols, head_dim, dv_part.row(t));
        }
    });
    if (rotary.inv_freq.empty()) return;
    rope(dq, shape.heads, rotary, true);
    rope(dk, shape.kv_heads, rotary, true);
}

}  // namespace fedit::cpu
#endif
