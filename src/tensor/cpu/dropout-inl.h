// tensor/cpu/dropout-inl.h: dropout masks drawn with a vectorised Philox; included once a target.
#if defined(FEDIT_TENSOR_CPU_DROPOUT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_DROPOUT_INL_H
#undef FEDIT_TENSOR_CPU_DROPOUT_INL_H
#else
#define FEDIT_TENSOR_CPU_DROPOUT_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
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

using WordTag = hn::RebindToUnsigned<FloatTag>;
using Words = hn::Vec<WordTag>;

/// Philox blocks, one a lane: counters that become random words.
struct PhiloxBlocks {
    Words c0, c1, c2, c3;
};

HWY_INLINE PhiloxBlocks FirstCounters(const DropoutRow& row, std::int64_t block) {
    const WordTag d;
    // Iota of a constant is one; of `block` it would be eight stores and a load that waits for
    // them.
    const auto block_of_lane =
        hn::Add(hn::Iota(d, 0U), hn::Set(d, static_cast<std::uint32_t>(block)));
    return {block_of_lane, hn::Set(d, row.module),
            hn::Set(d, static_cast<std::uint32_t>(row.counter)),
            hn::Set(d, static_cast<std::uint32_t>(row.counter >> 32))};
}

HWY_INLINE PhiloxBlocks PhiloxRound(const PhiloxBlocks& c, Words key0, Words key1) {
    const WordTag d;
    const auto m0 = hn::Set(d, 0xD2511F53U), m1 = hn::Set(d, 0xCD9E8D57U);
    return {hn::Xor(hn::Xor(MulHigh32(d, c.c2, m1), c.c1), key0), hn::Mul(c.c2, m1),
            hn::Xor(hn::Xor(MulHigh32(d, c.c0, m0), c.c3), key1), hn::Mul(c.c0, m0)};
}

/// In each half of a lane: bit 2 i (low half) or 2 i + 1 (high half) where it reaches the
/// threshold.
template <int i>
HWY_INLINE Words KeepBitsOfWord(Words word, std::uint16_t threshold) {
    const WordTag d;
    const hn::Repartition<std::uint16_t, WordTag> half;
    const auto halves = hn::BitCast(half, word);
    const auto bit = hn::BitCast(half, hn::Set(d, (1U << (2 * i)) | (2U << (2 * i + 16))));
    // a >= b as max(a, b) == a: an unsigned compare costs AVX2 more.
    const auto kept = hn::Eq(hn::Max(halves, hn::Set(half, threshold)), halves);
    return hn::BitCast(d, hn::IfThenElseZero(kept, bit));
}

/// Lane i: the keep bits of the eight columns of block i.
HWY_INLINE Words KeepBitsOf(const PhiloxBlocks& words, std::uint16_t threshold) {
    const auto low =
        hn::Or(KeepBitsOfWord<0>(words.c0, threshold), KeepBitsOfWord<1>(words.c1, threshold));
    const auto high =
        hn::Or(KeepBitsOfWord<2>(words.c2, threshold), KeepBitsOfWord<3>(words.c3, threshold));
    const auto bits = hn::Or(low, high);
    return hn::And(hn::Or(bits, hn::ShiftRight<16>(bits)), hn::Set(WordTag(), 0xFF));
}

/// The keep bits of one row: byte i holds those of columns 8 i .. 8 i + 7. Writes up to
/// keep_bytes(cols) bytes. The row itself, `x`, is fetched meanwhile.
HWY_INLINE void DrawKeepBits(std::uint8_t* keep, const DropoutRow& row, std::int64_t cols,
                             const float* x) {
    const WordTag d;
    const hn::RebindToSigned<FloatTag> signed_tag;
    const hn::Rebind<std::uint8_t, FloatTag> byte_tag;
    const std::int64_t lanes = FloatLanes();
    // Two vectors at once: a round is a chain of dependent steps that one would leave waiting.
    for (std::int64_t block = 0; block * 8 < cols; block += 2 * lanes) {
        PrefetchToL2(x + block * 8, std::min(2 * lanes * 8, cols - block * 8));
        PhiloxBlocks a = FirstCounters(row, block), b = FirstCounters(row, block + lanes);
        auto key0 = static_cast<std::uint32_t>(row.key);
        auto key1 = static_cast<std::uint32_t>(row.key >> 32);
        for (int round = 0; round < 10; ++round) {
            a = PhiloxRound(a, hn::Set(d, key0), hn::Set(d, key1));
            b = PhiloxRound(b, hn::Set(d, key0), hn::Set(d, key1));
            key0 += 0x9E3779B9U;
            key1 += 0xBB67AE85U;
        }
        const auto bits_a = hn::BitCast(signed_tag, KeepBitsOf(a, row.threshold));
        const auto bits_b = hn::BitCast(signed_tag, KeepBitsOf(b, row.threshold));
        hn::StoreU(hn::DemoteTo(byte_tag, bits_a), byte_tag, keep + block);
        hn::StoreU(hn::DemoteTo(byte_tag, bits_b), byte_tag, keep + block + lanes);
    }
}

/// The keep bits of the lanes from element j on, j a multiple of their number.
HWY_INLINE hn::Mask<FloatTag> KeptMask(FloatTag d, const std::uint8_t* keep, std::int64_t j) {
    std::uint64_t bits;
    std::memcpy(&bits, keep + j / 8, sizeof(bits));
    bits >>= j % 8;
    std::uint8_t bytes[8];
    std::memcpy(bytes, &bits, sizeof(bytes));
    return hn::LoadMaskBits(d, bytes);
}
HWY_INLINE hn::Mask<OneFloat> KeptMask(OneFloat d, const std::uint8_t* keep, std::int64_t j) {
    const bool kept = ((keep[j / 8] >> (j % 8)) & 1) != 0;
    return hn::Eq(hn::Set(d, kept ? 1.0F : 0.0F), hn::Set(d, 1.0F));
}

/// The lanes of factor x from element j on where kept, else 0.
template <class D>
HWY_INLINE hn::Vec<D> Dropped(D d, const float* x, const std::uint8_t* keep, std::int64_t j,
                              float factor) {
    const auto scaled = hn::Mul(hn::LoadU(d, x + j), hn::Set(d, factor));
    return hn::IfThenElseZero(KeptMask(d, keep, j), scaled);
}

/// to += factor x where kept.
HWY_INLINE void AddDroppedRow(float* to, const float* x, const std::uint8_t* keep,
                              std::int64_t cols, float factor) {
    ForEach(cols, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto kept = Dropped(d, x, keep, j, factor);
        hn::StoreU(hn::Add(hn::LoadU(d, to + j), kept), d, to + j);
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
