// tests/tensor/fixed_point_test.cpp: updates in fixed point, exact on every back end.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"
#include "fedit/tensor/backend.h"

namespace fedit {
namespace {

using Words = std::vector<std::uint64_t>;
using Floats = std::vector<float>;

/// Through the back end's own memory; `words` is what was there before.
Words accumulate(Backend& backend, Words words, const Floats& x, const Floats& x0, double weight) {
    const DeviceBuffer sum(backend, words.size() * sizeof(std::uint64_t));
    const DeviceBuffer client(backend, x.size() * sizeof(float));
    const DeviceBuffer global(backend, x0.size() * sizeof(float));
    backend.upload(sum.data(), std::as_bytes(std::span(words)));
    backend.upload(client.data(), std::as_bytes(std::span(x)));
    backend.upload(global.data(), std::as_bytes(std::span(x0)));
    backend.accumulate_fixed({reinterpret_cast<std::uint64_t*>(sum.data()), words.size()},
                             {client.floats(), x.size()}, {global.floats(), x0.size()}, weight);
    backend.download(std::as_writable_bytes(std::span(words)), sum.data());
    return words;
}

/// q by integer arithmetic on the double that (x - x0) weight is rounded to: no call that rounds.
std::uint64_t exact_word(float x, float x0, double weight) {
    const double product = (static_cast<double>(x) - static_cast<double>(x0)) * weight;
    int exponent = 0;
    const double fraction = std::frexp(std::abs(product), &exponent);
    const auto mantissa = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
    const int shift = exponent - 53 + 52;  // |product| 2^52 = mantissa 2^shift
    std::uint64_t magnitude = 0;
    if (shift >= 0) {
        magnitude = mantissa << shift;
    } else if (shift > -64) {
        const std::uint64_t unit = std::uint64_t{1} << -shift;
        const std::uint64_t rest = mantissa % unit;
        magnitude = mantissa / unit;
        if (2 * rest > unit || (2 * rest == unit && magnitude % 2 == 1)) ++magnitude;
    }
    return product < 0 ? 0 - magnitude : magnitude;
}

/// Differences from below a half of the last bit to just below 2^9, of both signs.
float any_magnitude(RandomStream& stream) {
    const int exponent = static_cast<int>(stream.below(64)) - 56;
    return static_cast<float>(std::ldexp(stream.uniform() * 2 - 1, exponent));
}

class FixedPoint : public testing::TestWithParam<int> {
protected:
    std::unique_ptr<Backend> backend_ = make_cpu_backend(GetParam());
};

TEST_P(FixedPoint, RoundsTiesToEvenAndWrapsBelowZero) {
    const Floats x{0x1p-53F, 0x3p-53F, 0x5p-53F, -0x1p-53F, -0x3p-53F, 0x1p-52F, -1};
    EXPECT_EQ(accumulate(*backend_, Words(7, 10), x, Floats(7, 0), 1),
              (Words{10, 12, 12, 10, 8, 11, 10 - (std::uint64_t{1} << 52)}));
}

TEST_P(FixedPoint, ReachesTheBoundWithoutOverflow) {
    const std::uint64_t most = (std::uint64_t{1} << 63) - 1024;  // 4 (2^9 - 2^-44) 2^52
    EXPECT_EQ(accumulate(*backend_, Words(2, 0), {0x1p-44F, -0x1p-44F}, {512, -512}, 4),
              (Words{0 - most, most}));
}

TEST_P(FixedPoint, AddsTheExactWordsForEverySizeAroundABlock) {
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, std::size_t{7}, (std::size_t{1} << 16) - 1,
          std::size_t{1} << 16, (std::size_t{1} << 17) + 5}) {
        RandomStream stream({.seed = 3, .purpose = Purpose::synthetic_data});
        Floats x(size), x0(size);
        Words words(size);
        for (std::size_t i = 0; i < size; ++i) {
            x[i] = any_magnitude(stream);
            x0[i] = any_magnitude(stream);
            words[i] = stream.below(std::uint64_t{1} << 62);
        }
        const double weight = 12.0 / 94;
        const Words got = accumulate(*backend_, words, x, x0, weight);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < size; ++i) {
            if (got[i] != words[i] + exact_word(x[i], x0[i], weight)) ++wrong;
        }
        EXPECT_EQ(wrong, 0U) << "of " << size;
    }
}

TEST_P(FixedPoint, RefusesVectorsOfAnotherLength) {
    EXPECT_THROW(accumulate(*backend_, Words(2), Floats(3), Floats(2), 1), ShapeError);
    EXPECT_THROW(accumulate(*backend_, Words(2), Floats(2), Floats(1), 1), ShapeError);
}

INSTANTIATE_TEST_SUITE_P(Cpu, FixedPoint, testing::Values(1, 2, 3), [](const auto& given) {
    return "threads_" + std::to_string(given.param);
});

}  // namespace
}  // namespace fedit
