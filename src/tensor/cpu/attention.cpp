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
    double sum = 0;
};

/// Takes further scores into the row, those of keys [first, end): they become exp(score - max), the
/// rest of their vectors zero; `sum_row` (cols) is rescaled to the new maximum.
HWY_INLINE void AbsorbScores(RunningSoftmax& softmax, float* scores, std::int64_t first,
                             std::int64_t end, float* sum_row, std::int64_t cols) {
    const FloatTag d;
    auto best = hn::Set(d, softmax.max);
    ForEachSeen(first, end, [&](std::int64_t j, auto seen) HWY_ATTR {
        best = hn::IfThenElse(seen, hn::Max(best, hn::Load(d, scores + j)), best);
    });
    const float max = hn::GetLane(hn::MaxOfLanes(d, best));
    if (max > softmax.max && softmax.sum > 0) {
        const float shrink = std::exp(softmax.max - max);
        softmax.sum *= shrink;
        ForEach(cols, [&](auto df, std::int64_t j) HWY_ATTR {
            hn::StoreU(hn::Mul(hn::LoadU(df, sum_row + j), hn::Set(df, shrink)), df, sum_row + j);
        });
    }
    softmax.max = max;
    const hn::Repartition<double, FloatTag> d64;
    const hn::Rebind<float, decltype(d64)> half;
    auto sum = hn::Zero(d64);
    ForEachSeen(first, end, [&](std::int64_t j, auto seen) HWY_ATTR {
        const auto e = ExpOf(d, hn::Sub(hn::Load(d, scores + j), hn::Set(d, max)));
        const auto weight = hn::IfThenElseZero(seen, e);
        hn::Store(weight, d, scores + j);
        sum = hn::Add(sum, hn::Add(hn::PromoteTo(d64, hn::LowerHalf(half, weight)),
                                   hn::PromoteTo(d64, hn::UpperHalf(half, weight))));
    });
    softmax.sum += hn::GetLane(hn::SumOfLanes(d64, sum));
}

/// Queries [query, query + rows) of one head: writes their rows of out and lse.
template <class O>
HWY_INLINE void ForwardQueries(TensorView out, float* lse, TensorView q, std::int64_t query,
                               std::int64_t rows, const HeadMask& mask,
                               const ForwardMemory& memory) {
    RunningSoftmax softmax[query_block];
    const std::int64_t cols = memory.cols, position = mask.position;
    std::fill_n(memory.sum, rows * cols, 0.0F);
    const LeftOperand queries = Left<O>(memory.query_words, q.row_range(query, rows));
    for (std::int64_t key = first_key_block(position + query, mask.window);
         key < position + query + rows; key += key_block) {
        const AttentionBlock block{query, rows, key, position, mask.window};
        ScoreBlock<O>(memory.scores, block, queries, q.cols, memory.keys);
        const TensorView scores =
            fp32_view(memory.scores, rows, key_block).columns(0, block.keys_end(rows - 1));
        for (std::int64_t i = 0; i < rows; ++i) {
            const std::int64_t first = block.first_key(i), end = block.keys_end(i);
            if (first < end) {
                AbsorbScores(softmax[i], scores.row(i), first, end, memory.sum + i * cols, cols);
            }
            ClearUnseen(scores.row(i), first, end, scores.cols);
        }
        AddOverKeys<O>(memory.sum, cols, block, Left<O>(memory.score_words, scores), memory.values,
                       mask.keys);
    }
    for (std::int64_t i = 0; i < rows; ++i) {
        const auto inverse = static_cast<float>(1.0 / softmax[i].sum);
        const float* sum = memory.sum + i * cols;
        float* to = out.row(query + i);
        ForEach(out.cols, [&](auto d, std::int64_t j) HWY_ATTR {
            hn::StoreU(hn::Mul(hn::LoadU(d, sum + j), hn::Set(d, inverse)), d, to + j);
        });
        lse[query + i] = static_cast<float>(softmax[i].max + std::log(softmax[i].sum));
    }
}

/// Packs the keys and values of one head.
void PackKeysValues(Operands operands, float* keys, float* values, TensorView k, TensorView v,
                    float scale) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        PackTransposed<O>(keys, k.floats(), k.stride, k.cols, k.rows, scale);
        PackRows<O>(values, v.floats(), v.stride, v.rows, v.cols, 1.0F);
    });
}

/// One query head against packed keys and values.
void AttendHead(Operands operands, TensorView out, float* lse, TensorView q, const HeadMask& mask,
                const ForwardMemory& memory) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        for (std::int64_t query = 0; query < q.rows; query += query_block) {
            const std::int64_t rows = std::min(query_block, q.rows - query);
            ForwardQueries<O>(out, lse, q, query, rows, mask, memory);
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
    const Operands operands = operands_for(shape.products);

    const auto pack = HWY_DYNAMIC_DISPATCH(PackKeysValues);
    const auto attend = HWY_DYNAMIC_DISPATCH(AttendHead);
    const auto task_count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads_, task_count, [&](std::int64_t i, int thread) noexcept {
        const AttentionTask& task = tasks[static_cast<std::size_t>(i)];
        const ForwardMemory own(memory + thread * thread_floats, length, head_dim);
        const HeadMask mask{task.kv_length, task.position(), shape.window};
        pack(operands, own.keys, own.values, key_part(k, task, head_dim),
             key_part(v, task, head_dim), scale);
        for (std::int64_t h = task.kv_head * group; h < (task.kv_head + 1) * group; ++h) {
            attend(operands, query_part(out, task, h, head_dim), lse + h * q.rows + task.begin,
                   query_part(q, task, h, head_dim), mask, own);
        }
    });
}

}  // namespace fedit::cpu
#endif
