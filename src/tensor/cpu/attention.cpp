// tensor/cpu/attention.cpp: causal attention, block by block with a running softmax (as in
// FlashAttention, arXiv 2205.14135).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

#include "tensor/cpu/attention-inl.h"
#include "tensor/cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Scratch of one task.
struct ForwardMemory {
    float *keys, *values;  ///< panels of scaled K^T and of V
    float *scores, *sum;   ///< a block's scores; its rows' weighted sums of values
};

/// A row's running maximum and sum of exponentials.
struct RunningSoftmax {
    float max = -std::numeric_limits<float>::infinity();
    float sum = 0;
};

/// Takes `seen` further scores into the row: they become exp(score - max), the rest of the block 0;
/// `sum_row` (cols) is rescaled to the new maximum.
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
    std::fill(scores + seen, scores + key_block, 0.0F);
}

/// Queries [query, query + rows) of one head: writes their rows of out and lse.
HWY_INLINE void ForwardQueries(TensorView out, float* lse, TensorView q, std::int64_t query,
                               std::int64_t rows, std::int64_t cols, const ForwardMemory& memory) {
    RunningSoftmax softmax[query_block];
    std::fill_n(memory.sum, rows * cols, 0.0F);
    for (std::int64_t key = 0; key < query + rows; key += key_block) {
        const AttentionBlock block{query, rows, key};
        ScoreBlock(memory.scores, block, q, memory.keys);
        for (std::int64_t i = 0; i < rows; ++i) {
            float* scores = memory.scores + i * key_block;
            const std::int64_t seen = block.keys_seen(i + 1);
            if (seen == 0) {
                std::fill_n(scores, key_block, 0.0F);
            } else {
                AbsorbScores(softmax[i], scores, seen, memory.sum + i * cols, cols);
            }
        }
        AddOverKeys(memory.sum, cols, block, memory.scores, memory.values, q.rows);
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

/// One query head against packed keys and values. `cols`: head_dim rounded up to whole panels.
void AttendHead(TensorView out, float* lse, TensorView q, std::int64_t cols, float* keys,
                float* values, float* scores, float* sum) {
    const ForwardMemory memory{keys, values, scores, sum};
    for (std::int64_t query = 0; query < q.rows; query += query_block) {
        const std::int64_t rows = std::min(query_block, q.rows - query);
        ForwardQueries(out, lse, q, query, rows, cols, memory);
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
    const std::vector<AttentionTask> tasks = attention_tasks(sequences, shape);
    const std::int64_t head_dim = shape.head_dim, length = longest(tasks);
    const std::int64_t cols = panel_floats(1, head_dim), group = shape.heads / shape.kv_heads;
    const std::int64_t keys_floats = aligned_floats(panel_floats(head_dim, length));
    const std::int64_t values_floats = aligned_floats(length * cols);
    const std::int64_t thread_floats =
        keys_floats + values_floats + query_block * (key_block + cols);
    float* const memory = scratch_.floats(threads_ * thread_floats);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));

    const auto pack = HWY_DYNAMIC_DISPATCH(PackKeysValues);
    const auto attend = HWY_DYNAMIC_DISPATCH(AttendHead);
    const auto task_count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads_, task_count, [&](std::int64_t i, int thread) noexcept {
        const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
        float* const keys = memory + thread * thread_floats;
        float* const values = keys + keys_floats;
        float* const scores = values + values_floats;
        float* const sum = scores + query_block * key_block;
        pack(keys, values, head_part(k, task, task.kv_head, head_dim),
             head_part(v, task, task.kv_head, head_dim), scale);
        for (std::int64_t h = task.kv_head * group; h < (task.kv_head + 1) * group; ++h) {
            attend(head_part(out, task, h, head_dim), lse + h * q.rows + task.begin,
                   head_part(q, task, h, head_dim), cols, keys, values, scores, sum);
        }
    });
}

}  // namespace fedit::cpu
#endif
