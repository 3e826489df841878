// tests/io/stored_floats_test.cpp: stored numbers as floats, and the first that is not finite,
// against one number at a time.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/io/safetensors.h"

namespace fedit {
namespace {

constexpr std::int64_t all = 1 << 16;  // as many bf16 or f16 numbers as there are

/// All numbers of 16 bits, from an odd address on, beginning at `first`.
std::vector<std::byte> numbers16(int first) {
    std::vector<std::byte> bytes(2 * all + 1);
    for (std::int64_t i = 0; i < all; ++i) {
        const auto bits = static_cast<std::uint16_t>(first + i);
        std::memcpy(bytes.data() + 1 + 2 * i, &bits, 2);
    }
    return bytes;
}

class StoredFloats : public testing::TestWithParam<StoredType> {};

TEST_P(StoredFloats, HaveTheBitsOfOneAtATime) {
    const StoredType type = GetParam();
    const auto one = type == StoredType::bf16 ? bf16_to_float : f16_to_float;
    for (const int first : {0, 0x7000, 0x8000}) {
        const std::vector<std::byte> memory = numbers16(first);
        const auto bytes = std::span(memory).subspan(1);
        std::vector<float> values(all);
        const std::int64_t bad = to_floats(type, bytes, values.data(), 3);
        std::int64_t want = all;
        for (std::int64_t i = all - 1; i >= 0; --i) {
            const float value = one(static_cast<std::uint16_t>(first + i));
            if (!std::isfinite(value)) want = i;
            EXPECT_EQ(std::bit_cast<std::uint32_t>(values[static_cast<std::size_t>(i)]),
                      std::bit_cast<std::uint32_t>(value));
        }
        EXPECT_EQ(bad, want);
        EXPECT_EQ(first_not_finite(type, bytes, 2), want);
    }
}
INSTANTIATE_TEST_SUITE_P(SixteenBits, StoredFloats,
                         testing::Values(StoredType::bf16, StoredType::f16));

TEST(StoredFloats32, TheFirstOfSeveralIsFoundOnAnyNumberOfThreads) {
    constexpr std::size_t count = 300'001;  // several blocks
    std::vector<float> values(count, 1.5F), out(count);
    const auto place = [&](int threads) {
        const auto bytes = std::as_bytes(std::span(values));
        const std::int64_t bad = to_floats(StoredType::f32, bytes, out.data(), threads);
        EXPECT_EQ(first_not_finite(StoredType::f32, bytes, threads), bad);
        EXPECT_EQ(std::memcmp(out.data(), values.data(), bytes.size()), 0);
        return bad;
    };
    EXPECT_EQ(place(3), std::ssize(values));
    for (const std::size_t i : {count - 1, std::size_t{200'000}, std::size_t{199'999}}) {
        values[i] = i % 2 == 0 ? INFINITY : -NAN;
        for (const int threads : {1, 2, 5}) EXPECT_EQ(place(threads), std::int64_t(i));
    }
    EXPECT_EQ(to_floats(StoredType::f32, {}, nullptr), 0);
}

TEST(StoredFloats32, OtherTypesAreRefused) {
    const std::vector<std::byte> bytes(8);
    EXPECT_THROW(first_not_finite(StoredType::f64, bytes), InputError);
}

}  // namespace
}  // namespace fedit
