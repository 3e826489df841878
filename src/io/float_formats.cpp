// io/float_formats.cpp: bfloat16 and half precision, by their bits.
#include <bit>
#include <cmath>
#include <cstdint>

#include "fedit/io/safetensors.h"

namespace fedit {

float bf16_to_float(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

float f16_to_float(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1FU;
    const std::uint32_t fraction = bits & 0x3FFU;
    if (exponent == 0) {  // zero or subnormal: fraction x 2^-24
        const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
    }
    const std::uint32_t wide_exponent = exponent == 0x1F ? 0xFFU : exponent + (127 - 15);
    return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

std::uint16_t float_to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value)) {
        // The quiet bit is set, so that a NaN whose payload lies in the dropped half stays a NaN.
        return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    }
    const std::uint32_t last_kept = bits >> 16 & 1U;
    return static_cast<std::uint16_t>((bits + 0x7FFFU + last_kept) >> 16);
}

std::uint16_t float_to_f16(float value) {
    const auto sign =
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16 & 0x8000U);
    const auto with_sign = [&](std::uint32_t bits) {
        return static_cast<std::uint16_t>(sign | bits);
    };
    if (std::isnan(value)) return with_sign(0x7E00U);
    const float magnitude = std::abs(value);
    if (magnitude >= 65520.0F) return with_sign(0x7C00U);  // half way to the next, and above
    if (magnitude < 0x1p-14F) {
        // Subnormal: whole multiples of 2^-24. The product is exact; nearbyint rounds to even.
        return with_sign(static_cast<std::uint32_t>(std::nearbyint(magnitude * 0x1p24F)));
    }
    const auto bits = std::bit_cast<std::uint32_t>(magnitude) - (std::uint32_t{127 - 15} << 23);
    const std::uint32_t last_kept = bits >> 13 & 1U;
    return with_sign((bits + 0xFFFU + last_kept) >> 13);
}

}  // namespace fedit
