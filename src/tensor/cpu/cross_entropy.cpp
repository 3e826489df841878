// tensor/cpu/cross_entropy.cpp: the loss and its gradient, with logits in chunks of rows.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/cross_entropy.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "tensor/cpu/exp-inl.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Replaces each logit by exp(logit - max) and returns the sum; float partial sums go to double.
HWY_INLINE double ExpInPlace(float* logits, std::int64_t count, float max) {
    constexpr std::int64_t block = 1024;
    double total = 0;
    for (std::int64_t begin = 0; begin < count; begin += block) {
        float* const x = logits + begin;
        total += SumOver(std::min(block, count - begin), [&](auto d, std::int64_t j) HWY_ATTR {
            const auto e = ExpOf(d, hn::Sub(hn::LoadU(d, x + j), hn::Set(d, max)));
            hn::StoreU(e, d, x + j);
            return e;
        });
    }
    return total;
}

/// Returns -log softmax(logits)[target]; logits become exp(logit - max), whose sum is `sum`.
double LossRow(float* logits, std::int64_t count, std::int32_t target, double& sum) {
    const float max = MaxOf(logits, count);
    const double above_target = static_cast<double>(max) - logits[target];
    sum = ExpInPlace(logits, count, max);
    return std::log(sum) + above_target;
}

/// What LossRow left becomes weight * (softmax - onehot(target)).
void LossGradientRow(float* exponentials, std::int64_t count, std::int32_t target, double sum,
                     float weight) {
    const auto factor = static_cast<float>(weight / sum);
    ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
        hn::StoreU(hn::Mul(hn::LoadU(d, exponentials + j), hn::Set(d, factor)), d,
                   exponentials + j);
    });
    exponentials[target] -= weight;
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(LossRow);
HWY_EXPORT(LossGradientRow);

namespace {

/// The first index of the largest logit, or -1 where one is NaN.
std::int32_t index_of_max(const float* logits, std::int64_t count) noexcept {
    std::int64_t best = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        if (std::isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    return static_cast<std::int32_t>(best);
}

/// Logits are held for this many bytes at a time, whatever the number of rows.
constexpr std::int64_t logits_bytes = 32 << 20;

std::int64_t chunk_rows(std::int64_t vocab) {
    const std::int64_t rows = logits_bytes / (vocab * 4);
    return rows >= 16 ? rows / 16 * 16 : std::max<std::int64_t>(rows, 1);
}

}  // namespace

void CpuBackend::cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead,
                               TensorView x, const PackedWeight& head,
                               std::span<const std::int32_t> targets, std::span<const float> weight,
                               std::span<std::int32_t> best) {
    check::cross_entropy(loss, dx, dhead, x, head, targets, weight, best);
    check::only_fp32("cross_entropy", {x});
    if (x.rows == 0) return;
    const std::int64_t chunk = std::min(chunk_rows(head.out), x.rows);
    float* const memory = scratch_.floats(chunk * head.out);
    const auto row_loss = HWY_DYNAMIC_DISPATCH(LossRow);
    const auto row_gradient = HWY_DYNAMIC_DISPATCH(LossGradientRow);
    for (std::int64_t begin = 0; begin < x.rows; begin += chunk) {
        const std::int64_t rows = std::min(chunk, x.rows - begin);
        const TensorView logits = fp32_view(memory, rows, head.out);
        products_.multiply(logits, x.row_range(begin, rows), head, nullptr, /*accumulate=*/false);
        parallel_for(threads_, rows, [&](std::int64_t i, int) noexcept {
            const auto t = static_cast<std::size_t>(begin + i);
            double sum = 0;
            if (!best.empty()) best[t] = index_of_max(logits.row(i), head.out);
            loss[t] = row_loss(logits.row(i), head.out, targets[t], sum);
            if (dx.data == nullptr) return;
            row_gradient(logits.row(i), head.out, targets[t], sum, weight[t]);
        });
        if (dx.data == nullptr) continue;
        products_.multiply_transposed(dx.row_range(begin, rows), logits, head,
                                      /*accumulate=*/false);
        if (dhead.data != nullptr) products_.add_outer(dhead, logits, x.row_range(begin, rows));
    }
}

}  // namespace fedit::cpu
#endif
