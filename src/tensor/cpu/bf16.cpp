// tensor/cpu/bf16.cpp: rounds activations and weights to bf16, and back.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/bf16.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/cpu/bf16.h"
#include "tensor/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void RoundRow(std::uint16_t* HWY_RESTRICT to, const float* HWY_RESTRICT from, std::int64_t count) {
    const hn::ScalableTag<float> df;
    const hn::RebindToUnsigned<decltype(df)> du;
    const hn::RebindToSigned<decltype(df)> di;
    const hn::Rebind<std::uint16_t, decltype(df)> d16;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(df));
    const auto round = [&](auto value) HWY_ATTR {
        const auto bits = hn::BitCast(du, value);
        const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
        const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
        const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
        const auto is_nan = hn::RebindMask(du, hn::IsNaN(value));
        const auto high = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
        return hn::DemoteTo(d16, hn::BitCast(di, high));
    };
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) hn::StoreU(round(hn::LoadU(df, from + i)), d16, to + i);
    for (; i < count; ++i) to[i] = hn::GetLane(round(hn::Set(df, from[i])));
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <bit>
#include <cstring>

namespace fedit::cpu {

HWY_EXPORT(RoundRow);

void round_to_bf16(int threads, std::uint16_t* to, TensorView x) {
    const auto round_row = HWY_DYNAMIC_DISPATCH(RoundRow);
    parallel_blocks(threads, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) round_row(to + t * x.cols, x.row(t), x.cols);
    });
}

void widen_bf16(int threads, float* to, const void* from, std::int64_t count) {
    const auto* bytes = static_cast<const std::byte*>(from);
    parallel_blocks(threads, count, 4096, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t i = begin; i < end; ++i) {
            std::uint16_t bits;
            std::memcpy(&bits, bytes + 2 * i, sizeof bits);
            to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
        }
    });
}

}  // namespace fedit::cpu
#endif
