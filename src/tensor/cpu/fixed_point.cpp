// tensor/cpu/fixed_point.cpp: a client's update as 64-bit integers, which have no order of
// addition.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/fixed_point.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr double words_per_unit = 0x1p52;

/// words[i] += llrint((x[i] - x0[i]) weight 2^52). Few instruction sets round a vector of doubles
/// to 64-bit integers; below 2^51 the sum with 1.5 2^52 does: its last bit counts ones.
void AccumulateBlock(std::uint64_t* words, const float* x, const float* x0, double weight,
                     std::int64_t count) {
    const hn::ScalableTag<double> d;
    const hn::RebindToUnsigned<decltype(d)> d_word;
    const hn::Rebind<float, decltype(d)> d_float;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto shift = hn::Set(d, 0x1.8p52);
    const auto add_one = [&](std::int64_t i) {
        const double difference = static_cast<double>(x[i]) - static_cast<double>(x0[i]);
        const double product = difference * weight;
        words[i] += static_cast<std::uint64_t>(std::llrint(product * words_per_unit));
    };
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        const auto difference = hn::Sub(hn::PromoteTo(d, hn::LoadU(d_float, x + i)),
                                        hn::PromoteTo(d, hn::LoadU(d_float, x0 + i)));
        const auto product = hn::Mul(difference, hn::Set(d, weight));
        if (hn::AllTrue(d, hn::Lt(hn::Abs(product), hn::Set(d, 0.5)))) {
            const auto shifted = hn::Add(hn::Mul(product, hn::Set(d, words_per_unit)), shift);
            const auto word = hn::Sub(hn::BitCast(d_word, shifted), hn::BitCast(d_word, shift));
            hn::StoreU(hn::Add(hn::LoadU(d_word, words + i), word), d_word, words + i);
        } else {
            for (std::int64_t lane = 0; lane < lanes; ++lane) add_one(i + lane);
        }
    }
    for (; i < count; ++i) add_one(i);
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(AccumulateBlock);

namespace {

constexpr std::int64_t block_elements = 1 << 16;  // below that a thread costs more than it saves

}  // namespace

void CpuBackend::accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                  std::span<const float> x0, double weight) {
    check::same_size("accumulate_fixed", "words", words.size(), "x", x.size());
    check::same_size("accumulate_fixed", "words", words.size(), "x0", x0.size());
    const auto block = HWY_DYNAMIC_DISPATCH(AccumulateBlock);
    parallel_blocks(threads_, static_cast<std::int64_t>(words.size()), block_elements,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        block(words.data() + begin, x.data() + begin, x0.data() + begin, weight,
                              end - begin);
                    });
}

}  // namespace fedit::cpu
#endif
