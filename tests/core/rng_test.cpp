// tests/core/rng_test.cpp: Philox against known answers; the distributions by their moments.
#include "fedit/core/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "tests/support/shared_data.h"

namespace fedit {
namespace {

template <std::size_t count>
std::array<std::uint32_t, count> words(const nlohmann::json& hex) {
    std::array<std::uint32_t, count> values{};
    for (std::size_t i = 0; i < count; ++i) {
        values[i] =
            static_cast<std::uint32_t>(std::stoul(hex.at(i).get<std::string>(), nullptr, 16));
    }
    return values;
}

struct Moments {
    double mean, variance;
};

template <class Draw>
Moments moments(int count, Draw draw) {
    double sum = 0, squares = 0;
    for (int i = 0; i < count; ++i) {
        const double value = draw();
        sum += value;
        squares += value * value;
    }
    const double mean = sum / count;
    return {mean, squares / count - mean * mean};
}

TEST(Philox, GivesTheAnswersPublishedWithRandom123) {
    using Block = std::array<std::uint32_t, 4>;
    EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
              (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(
        philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
        (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, AgreesWithAllKnownAnswers) {
    const auto path = test::shared_path("fixtures/algorithms/sampling.json");
    FEDIT_REQUIRE_SHARED(path);
    const auto vectors = nlohmann::json::parse(std::ifstream(path)).at("philox4x32_10");
    ASSERT_GE(vectors.size(), 3U);
    for (const auto& vector : vectors) {
        EXPECT_EQ(philox4x32(words<4>(vector.at("counter")), words<2>(vector.at("key"))),
                  words<4>(vector.at("out")))
            << vector;
    }
}

constexpr StreamKey some_key{
    .seed = 0x123456789abcdef0, .purpose = Purpose::dropout, .client = 7, .round = 3, .step = 11};

TEST(DeriveKey, IsTheFirstTwoWordsOfTheBlockItsCommentNames) {
    const auto block = philox4x32({4, 7, 3, 11}, {0x9abcdef0, 0x12345678});
    EXPECT_EQ(derive_key(some_key), block[0] | std::uint64_t{block[1]} << 32);
}

TEST(RandomStream, IsEqualForEqualKeys) {
    RandomStream a(some_key), b(some_key);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(a.bits64(), b.bits64()) << "draw " << i;
}

TEST(RandomStream, DiffersInEveryFieldOfItsKey) {
    std::vector<StreamKey> keys(6, some_key);
    keys[1].seed ^= std::uint64_t{1} << 63;
    keys[2].purpose = Purpose::sampling;
    keys[3].client += 1;
    keys[4].round += 1;
    keys[5].step += 1;
    std::vector<std::uint64_t> first;
    for (const StreamKey& key : keys) first.push_back(RandomStream(key).bits64());
    std::ranges::sort(first);
    EXPECT_EQ(std::ranges::adjacent_find(first), first.end());
}

TEST(RandomStream, CountsItsBlocksInOrder) {
    RandomStream stream(std::uint64_t{0xfedcba9876543210});
    for (std::uint32_t block = 0; block < 3; ++block) {
        for (const std::uint32_t word : philox4x32({block, 0, 0, 0}, {0x76543210, 0xfedcba98})) {
            EXPECT_EQ(stream.bits32(), word);
        }
    }
}

TEST(RandomStream, BelowStaysInItsBoundAndHitsEveryValueEquallyOften) {
    RandomStream stream(some_key);
    constexpr int draws = 70'000;
    std::array<int, 7> hits{};
    for (int i = 0; i < draws; ++i) ++hits.at(stream.below(hits.size()));
    double chi_square = 0;
    for (const int count : hits) chi_square += std::pow(count - draws / 7.0, 2) / (draws / 7.0);
    EXPECT_LT(chi_square, 22.5);  // 6 degrees of freedom: passed by chance once in 1,000 streams
}

TEST(RandomStream, BelowIsUnbiasedWhereARemainderWouldBe) {
    // Of 2^64 values modulo 3 x 2^62, the first third would come up twice as often.
    RandomStream stream(some_key);
    constexpr std::uint64_t bound = std::uint64_t{3} << 62;
    int in_first_third = 0;
    constexpr int draws = 30'000;
    for (int i = 0; i < draws; ++i) in_first_third += stream.below(bound) < bound / 3 ? 1 : 0;
    EXPECT_NEAR(in_first_third, draws / 3.0, 5 * std::sqrt(draws * 2.0 / 9));
}

TEST(RandomStream, BelowOneIsZero) {
    EXPECT_EQ(RandomStream(some_key).below(1), 0U);
}

TEST(RandomStream, UniformLiesInTheHalfOpenInterval) {
    RandomStream stream(some_key);
    const Moments got = moments(100'000, [&] {
        const double value = stream.uniform();
        EXPECT_TRUE(value >= 0 && value < 1) << value;
        return value;
    });
    EXPECT_NEAR(got.mean, 0.5, 5 * std::sqrt(1 / 12.0 / 100'000));
    EXPECT_NEAR(got.variance, 1 / 12.0, 0.002);
}

TEST(RandomStream, NormalHasItsMoments) {
    RandomStream stream(some_key);
    const Moments got = moments(100'000, [&] { return stream.normal(); });
    EXPECT_NEAR(got.mean, 0, 5 / std::sqrt(100'000));
    EXPECT_NEAR(got.variance, 1, 5 * std::sqrt(2.0 / 100'000));
}

TEST(RandomStream, GammaHasItsMoments) {
    for (const double shape : {0.1, 0.5, 1.0, 2.5, 30.0}) {
        RandomStream stream(some_key);
        constexpr int draws = 100'000;
        const Moments got = moments(draws, [&] { return stream.gamma(shape); });
        // Mean and variance are both the shape; the fourth central moment is 3 shape^2 + 6 shape.
        EXPECT_NEAR(got.mean, shape, 5 * std::sqrt(shape / draws)) << shape;
        EXPECT_NEAR(got.variance, shape, 5 * std::sqrt((2 * shape * shape + 6 * shape) / draws))
            << shape;
    }
}

TEST(RandomStream, ShuffleIsAPermutationAndAFunctionOfItsKey) {
    std::vector<std::int64_t> values(100), again(100);
    std::iota(values.begin(), values.end(), 0);
    std::iota(again.begin(), again.end(), 0);
    RandomStream(some_key).shuffle(values);
    RandomStream(some_key).shuffle(again);
    EXPECT_EQ(values, again);
    EXPECT_FALSE(std::ranges::is_sorted(values));
    std::ranges::sort(values);
    for (std::int64_t i = 0; i < 100; ++i) EXPECT_EQ(values[static_cast<std::size_t>(i)], i);
}

TEST(RandomStream, ShuffleReachesAllOrdersEquallyOften) {
    RandomStream stream(some_key);
    std::array<int, 6> hits{};
    for (int i = 0; i < 6000; ++i) {
        std::array<std::int64_t, 3> order{0, 1, 2};
        stream.shuffle(order);
        ++hits.at(static_cast<std::size_t>(order[0] * 2 + (order[1] > order[2] ? 1 : 0)));
    }
    for (const int count : hits) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000 * 5 / 6.0));
}

}  // namespace
}  // namespace fedit
