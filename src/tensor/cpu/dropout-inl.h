// tensor/cpu/dropout-inl.h: dropout masks drawn with a vectorised Philox; included once a target.
#if defined(FEDIT_TENSOR_CPU_DROPOUT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_DROPOUT_INL_H
#undef FEDIT_TENSOR_CPU_DROPOUT_INL_H
#else
#define FEDIT_TENSOR_CPU_DROPOUT_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "tensor/cpu/dropout_row.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// High halves of the 64-bit products of lanes.
template <class DU, class V>
HWY_INLINE V MulHigh32(DU du, V a, V b) {
    const hn::RepartitionToWide<DU> wide;
    const auto even = hn::MulEven(a, b);
    const auto odd = hn::MulEven(hn::BitCast(du, hn::ShiftRight<32>(hn::BitCast(wide, a))), b);
    return hn::OddEven(hn::BitCast(du, odd), hn::BitCast(du, hn::ShiftRight<32>(even)));
}

/// The keep bits of one row: byte i holds those of columns 4 i .. 4 i + 3. Writes
/// keep_bytes(cols) bytes.
HWY_INLINE void DrawKeepBits(std::uint8_t* keep, const DropoutRow& row, std::int64_t cols) {
    const hn::RebindToUnsigned<FloatTag> du;
    const hn::RebindToSigned<FloatTag> di;
    const hn::Rebind<std::uint8_t, FloatTag> d8;
    const std::int64_t lanes = FloatLanes();
    const auto m0 = hn::Set(du, 0xD2511F53U), m1 = hn::Set(du, 0xCD9E8D57U);
    const auto threshold = hn::Set(du, row.threshold);
    for (std::int64_t block = 0; block * 4 < cols; block += lanes) {
        auto c0 = hn::Iota(du, static_cast<std::uint32_t>(block));
        auto c1 = hn::Set(du, row.module);
        auto c2 = hn::Set(du, static_cast<std::uint32_t>(row.counter));
        auto c3 = hn::Set(du, static_cast<std::uint32_t>(row.counter >> 32));
        auto k0 = static_cast<std::uint32_t>(row.key);
        auto k1 = static_cast<std::uint32_t>(row.key >> 32);
        for (int round = 0; round < 10; ++round) {
            const auto high0 = MulHigh32(du, c0, m0), high1 = MulHigh32(du, c2, m1);
            const auto low0 = hn::Mul(c0, m0), low1 = hn::Mul(c2, m1);
            c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(du, k0));
            c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(du, k1));
            c1 = low1;
            c3 = low0;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }
        const auto bit = [&](auto word, std::uint32_t value) HWY_ATTR {
            return hn::IfThenZeroElse(hn::Gt(threshold, word), hn::Set(du, value));
        };
        const auto bits = hn::Or(hn::Or(bit(c0, 1), bit(c1, 2)), hn::Or(bit(c2, 4), bit(c3, 8)));
        hn::StoreU(hn::DemoteTo(d8, hn::BitCast(di, bits)), d8, keep + block);
    }
}

/// Calls body(d, j, mask) for the elements [0, cols), mask being their keep bits.
template <class Body>
HWY_INLINE void ForEachKept(const std::uint8_t* keep, std::int64_t cols, const Body& body) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    std::int64_t j = 0;
    for (; j + lanes <= cols; j += lanes) {
        std::uint64_t bits = 0;
        for (std::int64_t i = 0; i < lanes / 4; ++i) {
            bits |= static_cast<std::uint64_t>(keep[j / 4 + i]) << (4 * i);
        }
        std::uint8_t bytes[8];
        std::memcpy(bytes, &bits, sizeof(bytes));
        body(d, j, hn::LoadMaskBits(d, bytes));
    }
    for (; j < cols; ++j) {
        const OneFloat one;
        const bool kept = ((keep[j / 4] >> (j % 4)) & 1) != 0;
        body(one, j, hn::Eq(hn::Set(one, kept ? 1.0F : 0.0F), hn::Set(one, 1.0F)));
    }
}

/// to = x / (1 - p) where kept, else 0; `factor` is 1 / (1 - p).
HWY_INLINE void DropRow(float* to, const float* x, const std::uint8_t* keep, std::int64_t cols,
                        float factor) {
    ForEachKept(keep, cols, [&](auto d, std::int64_t j, auto mask) HWY_ATTR {
        const auto scaled = hn::Mul(hn::LoadU(d, x + j), hn::Set(d, factor));
        hn::StoreU(hn::IfThenElseZero(mask, scaled), d, to + j);
    });
}

/// to += x / (1 - p) where kept.
HWY_INLINE void AddDroppedRow(float* to, const float* x, const std::uint8_t* keep,
                              std::int64_t cols, float factor) {
    ForEachKept(keep, cols, [&](auto d, std::int64_t j, auto mask) HWY_ATTR {
        const auto scaled = hn::Mul(hn::LoadU(d, x + j), hn::Set(d, factor));
        hn::StoreU(hn::Add(hn::LoadU(d, to + j), hn::IfThenElseZero(mask, scaled)), d, to + j);
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
