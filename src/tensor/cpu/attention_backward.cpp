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

/// What one row of a block sees: scores become weights exp(score - lse), and the gradients of the
/// weights those of the scores, scale * weight * (gradient - dot).
HWY_INLINE void WeighRow(float* weights, float* dscores, std::int64_t seen, float lse, float dot,
                         float scale) {
    ForEach(seen, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto w = ExpOf(d, hn::Sub(hn::LoadU(d, weights + j), hn::Set(d, lse)));
        const auto slope = hn::Sub(hn::LoadU(d, dscores + j), hn::Set(d, dot));
        hn::StoreU(w, d, weights + j);
        hn::StoreU(hn::Mul(hn::Mul(w, hn::Set(d, scale)), slope), d, dscores + j);
    });
}

HWY_INLINE void BackwardBlock(const AttentionBlock& block, TensorView q, TensorView dout,
                              const float* lse, const float* dots, float scale,
                              const Memory& memory) {
    ScoreBlock(memory.weights, block, q, memory.keys_transposed);
    ScoreBlock(memory.dscores, block, dout, memory.values_transposed);
    for (std::int64_t i = 0; i < block.rows; ++i) {
        const std::int64_t first = block.first_key(i), end = block.keys_end(i);
        float* const weights = memory.weights + i * key_block;
        float* const dscores = memory.dscores + i * key_block;
        WeighRow(weights + first, dscores + first, end - first, lse[block.query + i], dots[i],
                 scale);
        for (float* const row : {weights, dscores}) {  // zeros for what the row does not see
            std::fill_n(row, first, 0.0F);
            std::fill(row + end, row + key_block, 0.0F);
        }
    }
    AddOverKeys(memory.dq, memory.cols, block, memory.dscores, memory.keys, q.rows);
    AddOverQueries(memory.dv, memory.cols, block, memory.weights, memory.douts);
    AddOverQueries(memory.dk, memory.cols, block, memory.dscores, memory.queries);
}

/// Packs the keys and values of one head and clears the sums.
void BeginBackward(const Memory& memory, TensorView k, TensorView v, float scale) {
    PackTransposed(memory.keys_transposed, k.floats(), k.stride, k.cols, k.rows, scale);
    PackTransposed(memory.values_transposed, v.floats(), v.stride, v.cols, v.rows, 1.0F);
    PackRows(memory.keys, k.floats(), k.stride, k.rows, k.cols, 1.0F);
    std::fill_n(memory.dk, k.rows * memory.cols, 0.0F);
    std::fill_n(memory.dv, k.rows * memory.cols, 0.0F);
}

void BackwardHead(TensorView dq, TensorView dout, TensorView out, const float* lse, TensorView q,
                  float scale, std::int64_t window, const Memory& memory) {
    for (std::int64_t query = 0; query < q.rows; query += query_block) {
        const std::int64_t rows = std::min(query_block, q.rows - query);
        float dots[query_block];
        for (std::int64_t i = 0; i < rows; ++i) {
            const float *a = dout.row(query + i), *b = out.row(query + i);
            dots[i] = SumOver(out.cols, [&](auto d, std::int64_t j) HWY_ATTR {
                return hn::Mul(hn::LoadU(d, a + j), hn::LoadU(d, b + j));
            });
        }
        PackRows(memory.queries, q.row(query), q.stride, rows, q.cols, 1.0F);
        PackRows(memory.douts, dout.row(query), dout.stride, rows, dout.cols, 1.0F);
        std::fill_n(memory.dq, rows * memory.cols, 0.0F);
        for (std::int64_t key = first_key_block(query, window); key < query + rows;
             key += key_block) {
            BackwardBlock({query, rows, key, 0, window}, q, dout, lse, dots, scale, memory);
        }
        for (std::int64_t i = 0; i < rows; ++i) {
            std::copy_n(memory.dq + i * memory.cols, dq.cols, dq.row(query + i));
        }
    }
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

    const auto begin_backward = HWY_DYNAMIC_DISPATCH(BeginBackward);
    const auto backward_head = HWY_DYNAMIC_DISPATCH(BackwardHead);
    const auto task_count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads_, task_count, [&](std::int64_t i, int thread) noexcept {
        const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
        const AttentionBackwardMemory own(memory + thread * thread_floats, length, head_dim);
        const auto part = [&](TensorView matrix, std::int64_t head) {
            return query_part(matrix, task, head, head_dim);
        };
        begin_backward(own, key_part(k, task, head_dim), key_part(v, task, head_dim), scale);
        for (std::int64_t h = task.kv_head * group; h < (task.kv_head + 1) * group; ++h) {
            backward_head(part(dq, h), part(dout, h), part(out, h), lse + h * q.rows + task.begin,
                          part(q, h), scale, shape.window, own);
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
