// tensor/cpu/optimizer.cpp: elementwise work on flat vectors of adapters, and their norm.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/adamw_step.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

void AdamWBlock(float* x, const float* g, float* m, float* v, std::int64_t count,
                const AdamWStep& step) {
    ForEach(count, [&](auto d, std::int64_t i) HWY_ATTR {
        const auto gradient = hn::LoadU(d, g + i);
        const auto m0 = hn::LoadU(d, m + i);
        const auto m1 =
            hn::Add(m0, hn::Mul(hn::Sub(gradient, m0), hn::Set(d, step.one_minus_beta1)));
        const auto fresh = hn::Mul(hn::Mul(gradient, gradient), hn::Set(d, step.one_minus_beta2));
        const auto v1 = hn::Add(hn::Mul(hn::LoadU(d, v + i), hn::Set(d, step.beta2)), fresh);
        const auto root = hn::Div(hn::Sqrt(v1), hn::Set(d, step.root_of_correction2));
        const auto direction = hn::Div(m1, hn::Add(root, hn::Set(d, step.eps)));
        const auto decayed = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, step.decay));
        hn::StoreU(m1, d, m + i);
        hn::StoreU(v1, d, v + i);
        hn::StoreU(hn::Sub(decayed, hn::Mul(hn::Set(d, step.step_size), direction)), d, x + i);
    });
}

void SgdBlock(float* x, const float* g, std::int64_t count, float lr, float weight_decay) {
    ForEach(count, [&](auto d, std::int64_t i) HWY_ATTR {
        const auto value = hn::LoadU(d, x + i);
        const auto slope = hn::Add(hn::LoadU(d, g + i), hn::Mul(hn::Set(d, weight_decay), value));
        hn::StoreU(hn::Sub(value, hn::Mul(hn::Set(d, lr), slope)), d, x + i);
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(AdamWBlock);
HWY_EXPORT(SgdBlock);

namespace {

/// Elements that one task takes; also the block of squared_norm, so part of its bits.
constexpr std::int64_t block_elements = squared_norm_block;

/// Of value(0), value(1), ...: eight sums in a fixed order, so that neither threads nor vector
/// length change bits.
template <class Value>
double squared_sum(std::int64_t count, const Value& value) noexcept {
    std::array<double, 8> sums{};
    const auto add = [&](std::int64_t i, std::size_t sum) {
        const double wide = value(i);
        sums[sum] += wide * wide;
    };
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (std::size_t sum = 0; sum < 8; ++sum) add(i + static_cast<std::int64_t>(sum), sum);
    }
    for (; i < count; ++i) add(i, static_cast<std::size_t>(i % 8));
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}

/// The sums of blocks, made by sum(begin, end), in order.
template <class Sum>
double sum_of_blocks(int threads, std::int64_t count, const Sum& sum) {
    std::vector<double> sums(
        static_cast<std::size_t>((count + block_elements - 1) / block_elements));
    parallel_blocks(threads, count, block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        sums[static_cast<std::size_t>(begin / block_elements)] = sum(begin, end);
                    });
    return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

void CpuBackend::adamw(std::span<float> x, std::span<const float> g, std::span<float> m,
                       std::span<float> v, const AdamW& settings) {
    check::same_size("adamw", "x", x.size(), "g", g.size());
    check::same_size("adamw", "x", x.size(), "m", m.size());
    check::same_size("adamw", "x", x.size(), "v", v.size());
    const AdamWStep constants = adamw_step(settings);
    const auto block = HWY_DYNAMIC_DISPATCH(AdamWBlock);
    parallel_blocks(threads_, static_cast<std::int64_t>(x.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        block(x.data() + begin, g.data() + begin, m.data() + begin,
                              v.data() + begin, end - begin, constants);
                    });
}

void CpuBackend::sgd(std::span<float> x, std::span<const float> g, double lr, double weight_decay) {
    check::same_size("sgd", "x", x.size(), "g", g.size());
    const auto block = HWY_DYNAMIC_DISPATCH(SgdBlock);
    parallel_blocks(threads_, static_cast<std::int64_t>(x.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        block(x.data() + begin, g.data() + begin, end - begin,
                              static_cast<float>(lr), static_cast<float>(weight_decay));
                    });
}

void CpuBackend::scale(std::span<float> x, float factor) {
    parallel_blocks(threads_, static_cast<std::int64_t>(x.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t i = begin; i < end; ++i)
                            x[static_cast<std::size_t>(i)] *= factor;
                    });
}

void CpuBackend::fill(std::span<float> x, float value) {
    parallel_blocks(threads_, static_cast<std::int64_t>(x.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        std::fill(x.data() + begin, x.data() + end, value);
                    });
}

void CpuBackend::copy(std::span<float> to, std::span<const float> from) {
    check::same_size("copy", "to", to.size(), "from", from.size());
    parallel_blocks(threads_, static_cast<std::int64_t>(to.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        std::copy(from.data() + begin, from.data() + end, to.data() + begin);
                    });
}

double CpuBackend::squared_norm(std::span<const float> x) {
    return sum_of_blocks(threads_, static_cast<std::int64_t>(x.size()),
                         [&](std::int64_t begin, std::int64_t end) noexcept {
                             const float* const values = x.data() + begin;
                             return squared_sum(end - begin, [=](auto i) { return values[i]; });
                         });
}

double CpuBackend::squared_distance(std::span<const float> x, std::span<const float> x0) {
    check::same_size("squared_distance", "x", x.size(), "x0", x0.size());
    return sum_of_blocks(
        threads_, static_cast<std::int64_t>(x.size()),
        [&](std::int64_t begin, std::int64_t end) noexcept {
            const float *const values = x.data() + begin, *const origins = x0.data() + begin;
            return squared_sum(end - begin, [=](auto i) { return values[i] - origins[i]; });
        });
}

}  // namespace fedit::cpu
#endif
