// tensor/cpu/operands-inl.h: the 32-bit words that products are made of, an fp32 number or two bf16
// numbers each; included once a target. Of two numbers the lower half is the first.
#if defined(FEDIT_TENSOR_CPU_OPERANDS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_OPERANDS_INL_H
#undef FEDIT_TENSOR_CPU_OPERANDS_INL_H
#else
#define FEDIT_TENSOR_CPU_OPERANDS_INL_H
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/operands.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

struct Fp32Operands {
    static constexpr Operands kind = Operands::fp32;
    static HWY_INLINE hn::Vec<FloatTag> MulAdd(hn::Vec<FloatTag> a, hn::Vec<FloatTag> b,
                                               hn::Vec<FloatTag> sum) {
        return hn::MulAdd(a, b, sum);
    }
};

/// bf16 by fp32 instructions.
struct EmulatedBf16 {
    static constexpr Operands kind = Operands::emulated_bf16;

    /// sum + the products of the second, then of the first numbers of each lane, each added exactly
    /// rounded, as VDPBF16PS does (its denormal numbers are zeros).
    static HWY_INLINE hn::Vec<FloatTag> MulAdd(hn::Vec<FloatTag> a, hn::Vec<FloatTag> b,
                                               hn::Vec<FloatTag> sum) {
        const FloatTag d;
        const hn::RebindToUnsigned<FloatTag> du;
        const auto second = hn::Set(du, 0xFFFF0000U);
        const auto a_bits = hn::BitCast(du, a), b_bits = hn::BitCast(du, b);
        sum = hn::MulAdd(hn::BitCast(d, hn::And(a_bits, second)),
                         hn::BitCast(d, hn::And(b_bits, second)), sum);
        return hn::MulAdd(hn::BitCast(d, hn::ShiftLeft<16>(a_bits)),
                          hn::BitCast(d, hn::ShiftLeft<16>(b_bits)), sum);
    }

    /// Lanes rounded to bf16, to nearest with ties to even, in their upper halves.
    template <class D>
    static HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> Round(D /*d*/, hn::Vec<D> x) {
        const hn::RebindToUnsigned<D> du;
        const auto bits = hn::BitCast(du, x);
        const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
        const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7FFF)));
        const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
        const auto is_nan = hn::RebindMask(du, hn::IsNaN(x));
        return hn::IfThenElse(is_nan, quiet, rounded);
    }

    /// One word a lane, of two numbers.
    template <class D>
    static HWY_INLINE hn::Vec<D> Zip(D d, hn::Vec<D> first, hn::Vec<D> second) {
        const hn::RebindToUnsigned<D> du;
        const auto high = hn::And(Round(d, second), hn::Set(du, 0xFFFF0000U));
        return hn::BitCast(d, hn::Or(high, hn::ShiftRight<16>(Round(d, first))));
    }

    /// Lanes one behind another.
    template <class D>
    static HWY_INLINE void Store(D d, hn::Vec<D> x, std::uint16_t* to) {
        const hn::RebindToSigned<D> di;
        const hn::Rebind<std::uint16_t, D> d16;
        hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(Round(d, x)))), d16, to);
    }
};

#if HWY_TARGET <= HWY_AVX3
/// bf16 by the instructions of AVX512_BF16, for which Highway 1.0 has no target: in assembler, and
/// only called where the CPU has them.
struct NativeBf16 {
    static constexpr Operands kind = Operands::bf16;

    static HWY_INLINE hn::Vec<FloatTag> MulAdd(hn::Vec<FloatTag> a, hn::Vec<FloatTag> b,
                                               hn::Vec<FloatTag> sum) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(b.raw), "v"(a.raw));
        return sum;
    }
    static HWY_INLINE hn::Vec<FloatTag> Zip(FloatTag /*d*/, hn::Vec<FloatTag> first,
                                            hn::Vec<FloatTag> second) {
        __m512i both;  // all of the first, then all of the second
        asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(second.raw), "v"(first.raw));
        const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i second_half = _mm512_set1_epi32(0x00100000);
        const __m512i place =
            _mm512_or_si512(_mm512_or_si512(lane, _mm512_slli_epi32(lane, 16)), second_half);
        return hn::Vec<FloatTag>{_mm512_castsi512_ps(_mm512_permutexvar_epi16(place, both))};
    }
    static HWY_INLINE void Store(FloatTag /*d*/, hn::Vec<FloatTag> x, std::uint16_t* to) {
        __m256i rounded;
        asm("vcvtneps2bf16 %1, %0" : "=v"(rounded) : "v"(x.raw));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), rounded);
    }
    static HWY_INLINE hn::Vec<OneFloat> Zip(OneFloat d, hn::Vec<OneFloat> first,
                                            hn::Vec<OneFloat> second) {
        return EmulatedBf16::Zip(d, first, second);
    }
    static HWY_INLINE void Store(OneFloat d, hn::Vec<OneFloat> x, std::uint16_t* to) {
        EmulatedBf16::Store(d, x, to);
    }
};
#else
using NativeBf16 = EmulatedBf16;
#endif

/// Calls body with the type for `operands`.
template <class Body>
HWY_INLINE void WithOperands(Operands operands, const Body& body) {
    switch (operands) {
        case Operands::fp32:
            return body(Fp32Operands());
        case Operands::bf16:
            return body(NativeBf16());
        case Operands::emulated_bf16:
            return body(EmulatedBf16());
    }
}

/// Puts a zero behind `count` bf16 numbers if their last word has room for one.
HWY_INLINE void FillLastWord(std::uint16_t* halves, std::int64_t count) {
    const std::uint16_t zero = 0;
    if (count % 2 != 0) std::memcpy(halves + count, &zero, sizeof zero);
}

/// The words of one row: number j is load(d, j), for full vectors and single lanes. A word that
/// has room left ends with zero.
template <class O, class Load>
HWY_INLINE void StoreWords(float* words, std::int64_t count, const Load& load) {
    if constexpr (O::kind == Operands::fp32) {
        ForEach(count,
                [&](auto d, std::int64_t j) HWY_ATTR { hn::StoreU(load(d, j), d, words + j); });
    } else {
        auto* const halves = reinterpret_cast<std::uint16_t*>(words);
        ForEach(count,
                [&](auto d, std::int64_t j) HWY_ATTR { O::Store(d, load(d, j), halves + j); });
        FillLastWord(halves, count);
    }
}

/// The left operand of a product, in words along its depth: word (i, p) is data[i * row_stride + p
/// * depth_stride].
struct LeftOperand {
    const float* data;
    std::int64_t row_stride, depth_stride;

    LeftOperand rows_from(std::int64_t i) const {
        return {data + i * row_stride, row_stride, depth_stride};
    }
    LeftOperand depth_from(std::int64_t p) const {
        return {data + p * depth_stride, row_stride, depth_stride};
    }
};

/// x as the left operand; bf16 in `words`, rows * word_stride(cols) of them.
template <class O>
HWY_INLINE LeftOperand Left(float* words, TensorView x) {
    if constexpr (O::kind == Operands::fp32) {
        return {x.floats(), x.stride, 1};
    } else {
        const std::int64_t stride = word_stride(O::kind, x.cols);
        for (std::int64_t t = 0; t < x.rows; ++t) {
            const float* const from = x.row(t);
            StoreWords<O>(words + t * stride, x.cols, [&](auto d, std::int64_t j) HWY_ATTR {
                hwy::Prefetch(from + x.stride + j);
                return hn::LoadU(d, from + j);
            });
        }
        return {words, stride, 1};
    }
}

/// x^T as the left operand; bf16 in `words`, words_of(rows) * cols of them.
template <class O>
HWY_INLINE LeftOperand LeftTransposed(float* words, TensorView x) {
    if constexpr (O::kind == Operands::fp32) {
        return {x.floats(), 1, x.stride};
    } else {
        for (std::int64_t t = 0; t < x.rows; t += 2) {
            const float* const first = x.row(t);
            const float* const second = t + 1 < x.rows ? x.row(t + 1) : nullptr;
            float* const to = words + t / 2 * x.cols;
            ForEach(x.cols, [&](auto d, std::int64_t j) HWY_ATTR {
                const auto low = hn::LoadU(d, first + j);
                const auto high = second == nullptr ? hn::Zero(d) : hn::LoadU(d, second + j);
                hn::StoreU(O::Zip(d, low, high), d, to + j);
            });
        }
        return {words, 1, x.cols};
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
