// tensor/cpu/attention.cpp: causal attention, block by block with a running softmax (as in
// FlashAttention, arXiv 2205.14135).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "tensor/cpu/attention-inl.h"
#include "tensor/cpu/attention_forward.h"
#include "tensor/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// A row's running maximum and sum of exponentials.
struct RunningSoftmax {
    float max = -std::numeric_limits<float>::infinity();
    float sum = 0;
};

/// Takes `seen` further scores into the row: they become exp(score - max); `sum_row` (cols) is
/// rescaled to the new maximum.
HWY_INLINE void AbsorbScores(RunningSoftmax& softmax, float* scores, std::int64_t seen,
                             float* sum_row, std::int64_t cols) {
    const float max = std::max(softmax.max, MaxOf(scores, seen));
    if (max > softmax.max && softmax.sum > 0) {
        const float shrink = std::exp(softmax.max - max);
        softmax.sum *= shrink;
        ForEach(cols, [&](auto d, std::int64_t j) HWY_ATTR {
            hn::StoreU(hn::Mul(hn::LoadU(d, sum_row + j), hn::Set(d, shrink)), d, sum_row + j);
        });
    }
    softmax.max = max;
    softmax.sum += SumOver(seen, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto e = ExpOf(d, hn::Sub(hn::LoadU(d, scores + j), hn::Set(d, max)));
        hn::StoreU(e, d, scores + j);
        return e;
    });
}

/// Queries [query, query + rows) of one head: writes their rows of out and lse.
HWY_INLINE void ForwardQueries(TensorView out, float* lse, TensorView q, std::int64_t query,
                               std::int64_t rows, const HeadMask& mask,
                               const ForwardMemory& memory) {
    RunningSoftmax softmax[query_block];
    const std::int64_t cols = memory.cols, position = mask.position;
    std::fill_n(memory.sum, rows * cols, 0.0F);
    for (std::int64_t key = first_key_block(position + query, mask.window);
         key < position + query + rows; key += key_block) {
        const AttentionBlock block{query, rows, key, position, mask.window};
        ScoreBlock(memory.scores, block, q, memory.keys);
        for (std::int64_t i = 0; i < rows; ++i) {
            float* scores = memory.scores + i * key_block;
            const std::int64_t first = block.first_key(i), end = block.keys_end(i);
            if (first < end) {
                AbsorbScores(softmax[i], scores + first, end - first, memory.sum + i * cols, cols);
            }
            std::fill_n(scores, first, 0.0F);
            std::fill(scores + end, scores + key_block, 0.0F);
        }
        AddOverKeys(memory.sum, cols, block, memory.scores, memory.values, mask.keys);
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        const float inverse = 1.0F / softmax[i].sum;
        const float* sum = memory.sum + i * cols;
        float* to = out.row(query + i);
        ForEach(out.cols, [&](auto d, std::int64_t j) HWY_ATTR {
            hn::StoreU(hn::Mul(hn::LoadU(d, sum + j), hn::Set(d, inverse)), d, to + j);
        });
        lse[query + i] = softmax[i].max + std::log(softmax[i].sum);
    }
}

/// Packs the keys and values of one head.
void PackKeysValues(float* keys, float* values, TensorView k, TensorView v, float scale) {
    PackTransposed(keys, k.floats(), k.stride, k.cols, k.rows, scale);
    PackRows(values, v.floats(), v.stride, v.rows, v.cols, 1.0F);
}

/// One query head against packed keys and values.
void AttendHead(TensorView out, float* lse, TensorView q, const HeadMask& mask,
                const ForwardMemory& memory) {
    for (std::int64_t query = 0; query < q.rows; query += query_block) {
        const std::int64_t rows = std::min(query_block, q.rows - query);
        ForwardQueries(out, lse, q, query, rows, mask, memory);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(PackKeysValues);
HWY_EXPORT(AttendHead);

void CpuBackend::attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                           const AttentionShape& shape, const Sequences& sequences) {
    check::attention(out, q, k, v, shape, sequences);
    check::only_fp32("attention", {out, q, k, v});
    const std::vector<AttentionTask> tasks = attention_tasks(sequences, shape);
    const std::int64_t head_dim = shape.head_dim, length = most_keys(tasks);
    const std::int64_t group = shape.heads / shape.kv_heads;
    const std::int64_t thread_floats = ForwardMemory::floats(length, head_dim);
    float* const memory = scratch_.floats(threads_ * thread_floats);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));

    const auto pack = HWY_DYNAMIC_DISPATCH(PackKeysValues);
    const auto attend = HWY_DYNAMIC_DISPATCH(AttendHead);
    const auto task_count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads_, task_count, [&](std::int64_t i, int thread) noexcept {
        const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
        const ForwardMemory own(memory + thread * thread_floats, length, head_dim);
        const HeadMask mask{task.kv_length, task.position(), shape.window};
        pack(own.keys, own.values, key_part(k, task, head_dim), key_part(v, task, head_dim), scale);
        for (std::int64_t h = task.kv_head * group; h < (task.kv_head + 1) * group; ++h) {
            attend(query_part(out, task, h, head_dim), lse + h * q.rows + task.begin,
                   query_part(q, task, h, head_dim), mask, own);
        }
    });
}

}  // namespace fedit::cpu
#endif
