// tests/io/float_formats_test.cpp: every bit pattern against the formula of IEEE 754.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "fedit/io/safetensors.h"

namespace fedit {
namespace {

/// (-1)^sign x 2^(exponent - bias) x 1.fraction, by arithmetic in double.
double by_formula(std::uint32_t bits, int exponent_bits, int fraction_bits) {
    const auto field = [&](int shift, int width) { return (bits >> shift) & ((1U << width) - 1); };
    const double sign = field(exponent_bits + fraction_bits, 1) == 1 ? -1 : 1;
    const int exponent = static_cast<int>(field(fraction_bits, exponent_bits));
    const double fraction = field(0, fraction_bits) / std::exp2(fraction_bits);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    if (exponent == (1 << exponent_bits) - 1) {
        return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
    }
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
    return sign * std::ldexp(1 + fraction, exponent - bias);
}

void expect_same(float got, double want, unsigned bits) {
    if (std::isnan(want)) {
        ASSERT_TRUE(std::isnan(got)) << std::hex << bits;
        return;
    }
    ASSERT_EQ(static_cast<double>(got), want) << std::hex << bits;
    ASSERT_EQ(std::signbit(got), std::signbit(want)) << std::hex << bits;
}

TEST(HalfToFloat, FollowsTheFormulaForEveryPattern) {
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
        expect_same(f16_to_float(static_cast<std::uint16_t>(bits)), by_formula(bits, 5, 10), bits);
    }
}

TEST(Bf16ToFloat, FollowsTheFormulaForEveryPattern) {
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
        expect_same(bf16_to_float(static_cast<std::uint16_t>(bits)), by_formula(bits, 8, 7), bits);
    }
}

TEST(FloatToBf16, InvertsEveryPattern) {
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
        const float value = bf16_to_float(static_cast<std::uint16_t>(bits));
        const std::uint16_t back = float_to_bf16(value);
        if (std::isnan(value)) {
            ASSERT_TRUE(std::isnan(bf16_to_float(back))) << std::hex << bits;
        } else {
            ASSERT_EQ(back, bits);
        }
    }
}

TEST(FloatToBf16, TakesTheNearestAndOfTwoTheEven) {
    // Around every finite pattern: the point half way to the next one, and its two neighbours.
    for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
        const std::uint32_t half = bits << 16 | 0x8000U;
        const std::uint32_t even = bits + (bits & 1U);
        ASSERT_EQ(float_to_bf16(std::bit_cast<float>(half)), even) << std::hex << bits;
        ASSERT_EQ(float_to_bf16(std::bit_cast<float>(half - 1)), bits) << std::hex << bits;
        ASSERT_EQ(float_to_bf16(std::bit_cast<float>(half + 1)), bits + 1) << std::hex << bits;
        ASSERT_EQ(float_to_bf16(std::bit_cast<float>(half | 0x80000000U)), even | 0x8000U);
    }
}

TEST(FloatToBf16, KeepsANanWhosePayloadIsDropped) {
    for (const std::uint32_t bits : {0x7F800001U, 0xFF800001U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
        EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(bits))))) << bits;
    }
    EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::infinity()), 0x7F80);
    EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
}

TEST(FloatToHalf, InvertsEveryPattern) {
    for (std::uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
        const float value = f16_to_float(static_cast<std::uint16_t>(bits));
        const std::uint16_t back = float_to_f16(value);
        if (std::isnan(value)) {
            ASSERT_TRUE(std::isnan(f16_to_float(back))) << std::hex << bits;
        } else {
            ASSERT_EQ(back, bits);
        }
    }
}

TEST(FloatToHalf, TakesTheNearestAndOfTwoTheEven) {
    // Around every finite pattern: the point half way to the next one, and its two neighbours. The
    // largest's next would be 2^16, whose pattern is that of infinity.
    const float infinity = std::numeric_limits<float>::infinity();
    for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
        const float here = f16_to_float(static_cast<std::uint16_t>(bits));
        const float next =
            bits == 0x7BFF ? 65536.0F : f16_to_float(static_cast<std::uint16_t>(bits + 1));
        const float half = here + (next - here) / 2;
        const std::uint32_t even = bits + (bits & 1U);
        ASSERT_EQ(float_to_f16(half), even) << std::hex << bits;
        ASSERT_EQ(float_to_f16(std::nextafter(half, 0.0F)), bits) << std::hex << bits;
        ASSERT_EQ(float_to_f16(std::nextafter(half, infinity)), bits + 1) << std::hex << bits;
        ASSERT_EQ(float_to_f16(-half), even | 0x8000U) << std::hex << bits;
    }
    EXPECT_EQ(float_to_f16(infinity), 0x7C00);
    EXPECT_EQ(float_to_f16(std::numeric_limits<float>::max()), 0x7C00);
    EXPECT_EQ(float_to_f16(std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace fedit
