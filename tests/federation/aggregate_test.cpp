// tests/federation/aggregate_test.cpp: screening, fixed-point sums and FedAvg's step, by hand-made
// numbers.
#include "fedit/federation/aggregate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "fedit/core/error.h"
#include "tests/federation/random_updates.h"
#include "tests/support/guarded_backend.h"

namespace fedit {
namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

/// 512 - 2^-44: the largest difference of two floats that the screen lets pass.
const std::vector<float> far_global = {512, -512};
const std::vector<float> far_client = {0x1p-44F, -0x1p-44F};

std::string reason(const std::vector<float>& client, const std::vector<float>& global) {
    return screen(client, global).value_or("accepted");
}

TEST(Screen, AcceptsWhatMovedLessThanTheBound) {
    EXPECT_EQ(reason({}, {}), "accepted");
    EXPECT_EQ(reason({1, -2, 511.99F}, {1, 3, 0}), "accepted");
    EXPECT_EQ(reason({1000}, {600}), "accepted");
    EXPECT_EQ(reason(far_client, far_global), "accepted");
}

TEST(Screen, NamesTheFirstBadPlaceAndItsValue) {
    EXPECT_EQ(reason({1, 2}, {1, 2, 3}), "has 2 values, the global vector has 3");
    EXPECT_EQ(reason({1, nan_value, infinity}, {0, 0, 0}), "value 1 is nan");
    EXPECT_EQ(reason({1, 2, infinity}, {0, 0, 0}), "value 2 is inf");
    EXPECT_EQ(reason({-infinity}, {0}), "value 0 is -inf");
    EXPECT_EQ(reason({0, 600}, {0, 4}), "value 1 is 600, further than 512 from the global 4");
    EXPECT_EQ(reason({512}, {0}), "value 0 is 512, further than 512 from the global 0");
}

TEST(Screen, RejectsADifferenceThatRoundsToTheBound) {
    EXPECT_NE(reason({0x1p-60F}, {512}), "accepted");
    EXPECT_NE(reason({0x1p127F}, {-0x1p127F}), "accepted");
}

TEST(OrderFreeSum, RoundsHalfToEven) {
    OrderFreeSum sum(test::any_backend(), 3);
    const std::vector<float> halves = {0x1p-53F, 0x3p-53F, -0x1p-53F};
    EXPECT_EQ(sum.add(halves, std::vector<float>(3), 1, 1), std::nullopt);
    EXPECT_EQ(sum.host_words(), (std::vector<std::uint64_t>{0, 2, 0}));
}

TEST(OrderFreeSum, FourClientsOfWeightOneAtTheLimitDoNotOverflow) {
    OrderFreeSum sum(test::any_backend(), 2);
    for (int k = 0; k < 4; ++k) EXPECT_EQ(sum.add(far_client, far_global, 1, 1), std::nullopt);

    const std::uint64_t most = (std::uint64_t{1} << 63) - 1024;  // 4 (2^9 - 2^-44) 2^52
    EXPECT_EQ(sum.host_words(), (std::vector<std::uint64_t>{~most + 1, most}));
    EXPECT_THROW(static_cast<void>(sum.add(far_client, far_global, 0x1p-10, 1)), RunError);
}

TEST(OrderFreeSum, RefusesWeightsThatCouldOverflowAndLeavesTheSumAlone) {
    OrderFreeSum sum(test::any_backend(), 2);
    for (const double weight : {-0.1, 4.1, std::nan(""), std::numeric_limits<double>::infinity()})
        EXPECT_THROW(static_cast<void>(sum.add(far_client, far_global, weight, 1)), RunError)
            << weight;
    EXPECT_EQ(sum.host_words(), (std::vector<std::uint64_t>{0, 0}));
    EXPECT_EQ(sum.records(), 0);
    EXPECT_EQ(sum.add(far_client, far_global, 4, 1), std::nullopt);
}

TEST(OrderFreeSum, ForgetsAllWhenCleared) {
    OrderFreeSum sum(test::any_backend(), 2);
    ASSERT_EQ(sum.add(far_client, far_global, 3, 5), std::nullopt);
    sum.clear();
    EXPECT_EQ(sum.host_words(), (std::vector<std::uint64_t>{0, 0}));
    EXPECT_EQ(sum.records(), 0);
    EXPECT_EQ(sum.add(far_client, far_global, 4, 1), std::nullopt) << "a forgotten weight counts";
}

TEST(OrderFreeSum, RefusesVectorsOfAnotherLength) {
    OrderFreeSum sum(test::any_backend(), 2);
    EXPECT_EQ(sum.add(std::vector<float>{1}, far_global, 1, 1),
              "has 1 values, the global vector has 2");
    const std::vector<float> longer = {1, 2, 3};
    EXPECT_THROW(static_cast<void>(sum.add(longer, longer, 1, 1)), ShapeError);
}

void expect_nothing_left_of_a_refused_update(Backend& backend) {
    constexpr std::size_t size = 600'000;  // the bad value is in the third part that is screened
    const auto global = test::random_update(0, size), good = test::random_update(1, size);
    auto bad = test::random_update(2, size);
    bad[size - 1] = nan_value;
    bad[size - 5] = infinity;
    OrderFreeSum sum(backend, size);
    ASSERT_EQ(sum.add(good, global, 0.25, 3), std::nullopt);
    const std::vector<std::uint64_t> before = sum.host_words();

    EXPECT_EQ(sum.add(bad, global, 0.75, 4), "value 599995 is inf");

    EXPECT_TRUE(sum.host_words() == before);
    EXPECT_EQ(sum.records(), 3);
    EXPECT_EQ(sum.add(good, global, 3.75, 1), std::nullopt) << "the refused weight counts";
}

TEST(OrderFreeSum, KeepsNothingOfARefusedUpdate) {
    expect_nothing_left_of_a_refused_update(test::any_backend());
}

TEST(OrderFreeSum, KeepsNothingOfARefusedUpdateOnADevice) {
    test::GuardedBackend guarded;
    expect_nothing_left_of_a_refused_update(guarded);
}

TEST(OrderFreeSum, AddsWhatLiesInBackEndMemoryWithTheSameBits) {
    constexpr std::size_t size = 10'000;
    test::GuardedBackend backend;
    const auto there = [&](const std::vector<float>& values) {
        DeviceBuffer buffer(backend, values.size() * sizeof(float));
        backend.upload(buffer.data(), std::as_bytes(std::span(values)));
        return buffer;
    };
    const auto global = test::random_update(0, size);
    auto client = test::random_update(1, size);
    for (std::size_t i = 0; i < size; ++i) client[i] = global[i] + client[i] / 16;
    const DeviceBuffer global_there = there(global), client_there = there(client);
    OrderFreeSum want(backend, size), got(backend, size);
    ASSERT_EQ(want.add(client, global, 0.25, 3), std::nullopt);
    EXPECT_EQ(got.add_near(client_there.floats(), global_there.floats(), 0.25, 3),
              update_norm(client, global));
    EXPECT_EQ(got.host_words(), want.host_words());
    EXPECT_EQ(got.records(), 3);

    for (const float value : {nan_value, infinity, 1000.0F}) {
        auto bad = client;
        bad[7777] = value;
        const DeviceBuffer bad_there = there(bad);
        EXPECT_EQ(got.add_near(bad_there.floats(), global_there.floats(), 0.25, 3), std::nullopt);
    }
    EXPECT_EQ(got.host_words(), want.host_words());
    EXPECT_EQ(got.records(), 3);
    EXPECT_THROW(
        static_cast<void>(got.add_near(client_there.floats(), global_there.floats(), 4, 3)),
        RunError);
}

TEST(OrderFreeSum, HasTheSameBitsForEveryOrderAndEverySplit) {
    constexpr std::size_t size = 257;
    constexpr std::uint32_t clients = 6;
    const auto global = test::random_update(0, size);
    std::vector<std::vector<float>> uploads;
    for (std::uint32_t k = 1; k <= clients; ++k) uploads.push_back(test::random_update(k, size));
    const auto weight = [](std::size_t k) { return static_cast<double>(k + 1) / 21; };

    OrderFreeSum serial(test::any_backend(), size);
    for (std::size_t k = 0; k < clients; ++k)
        ASSERT_EQ(serial.add(uploads[k], global, weight(k), 1), std::nullopt);

    std::vector<std::size_t> order(clients);
    std::iota(order.begin(), order.end(), 0);
    do {
        const std::size_t ranks = 1 + order[0];
        std::vector<OrderFreeSum> part;
        for (std::size_t rank = 0; rank < ranks; ++rank)
            part.emplace_back(test::any_backend(), size);
        for (std::size_t i = 0; i < clients; ++i) {
            OrderFreeSum& mine = part[i % ranks];
            ASSERT_EQ(mine.add(uploads[order[i]], global, weight(order[i]), 1), std::nullopt);
        }
        std::vector<std::uint64_t> total(size, 0);
        for (const OrderFreeSum& mine : part)
            std::ranges::transform(total, mine.host_words(), total.begin(), std::plus<>());
        ASSERT_EQ(total, serial.host_words()) << "first client " << order[0];
    } while (std::ranges::next_permutation(order).found);
}

TEST(OrderFreeSum, OneClientReturnsItsOwnVectorToTheBit) {
    // Where |x| is 0 or in [2^-29, 1) the difference is a multiple of 2^-52 and exact in double.
    auto global = test::random_update(0, 1000);
    auto client = test::random_update(1, 1000);
    for (auto* vector : {&global, &client})
        for (float& value : *vector)
            if (std::abs(value) >= 1 || std::abs(value) < 0x1p-29F) value = 0;
    OrderFreeSum sum(test::any_backend(), 1000);
    ASSERT_EQ(sum.add(client, global, 1, 12), std::nullopt);
    ServerStep(global, 12, 12).take(sum.host_words());
    EXPECT_EQ(global, client);
}

void expect_exact_sums_of_more_than_a_part(Backend& backend) {
    constexpr std::size_t size = (std::size_t{1} << 20) + 3;  // one part and a bit
    std::vector<float> global(size), client(size);
    for (std::size_t i = 0; i < size; ++i) {
        global[i] = static_cast<float>(i % 1000) * 0x1p-3F;
        client[i] = global[i] + static_cast<float>(i % 77) - 38;
    }
    OrderFreeSum sum(backend, size);
    ASSERT_EQ(sum.add(client, global, 0.5, 1), std::nullopt);

    const std::vector<std::uint64_t> words = sum.host_words();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < size; ++i) {  // every number here is exact
        const auto want = (static_cast<std::int64_t>(i % 77) - 38) * (std::int64_t{1} << 51);
        if (words[i] != static_cast<std::uint64_t>(want)) ++wrong;
    }
    EXPECT_EQ(wrong, 0U);
}

TEST(OrderFreeSum, IsExactInMemoryOfTheHost) {
    expect_exact_sums_of_more_than_a_part(test::any_backend());
}

TEST(OrderFreeSum, IsExactInPartsThatGoToADevice) {
    test::GuardedBackend guarded;
    expect_exact_sums_of_more_than_a_part(guarded);
}

/// Words of every magnitude and sign, the extremes among them.
std::vector<std::uint64_t> many_words(std::size_t size) {
    std::vector<std::uint64_t> words(size);
    std::uint64_t state = 1;
    for (std::size_t i = 0; i < size; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const auto word = static_cast<std::int64_t>(state) >> (i % 64);
        words[i] = static_cast<std::uint64_t>(word);
    }
    constexpr std::uint64_t top = std::uint64_t{1} << 63;
    for (const std::uint64_t edge : {top, top - 1, top + 1, ~std::uint64_t{0}, std::uint64_t{0}})
        words[edge % 7] = edge;
    return words;
}

TEST(ServerStep, AddsTheMeanInDoubleAndTellsItsNorm) {
    std::vector<float> x = {1, -2, 0x1p24F};
    ServerStep step(x, 1, 1);
    constexpr std::uint64_t one = std::uint64_t{1} << 52;
    step.take(std::vector<std::uint64_t>{2 * one, 0, ~one + 1});
    EXPECT_EQ(x, (std::vector<float>{3, -2, 0x1p24F - 1}));
    EXPECT_DOUBLE_EQ(step.update_norm(), std::sqrt(5.0));
    EXPECT_EQ(step.checksum(), checksum(x));
}

TEST(ServerStep, ScalesByPlannedOverSurvivingRecords) {
    OrderFreeSum sum(test::any_backend(), 2);
    const std::vector<float> start = {1, 1};
    ASSERT_EQ(sum.add(std::vector<float>{2, -1}, start, 0.25, 10), std::nullopt);
    const auto after = [&](std::int64_t planned_records) {
        std::vector<float> x = start;
        ServerStep(x, sum.records(), planned_records).take(sum.host_words());
        return x;
    };
    EXPECT_EQ(after(10), (std::vector<float>{1.25, 0.5}));
    EXPECT_EQ(after(40), (std::vector<float>{2, -1}));
}

TEST(ServerStep, IsThatOfANaiveLoopHoweverTheWordsAreCut) {
    constexpr std::size_t size = 5003;
    const std::vector<std::uint64_t> words = many_words(size);
    std::vector<float> want = test::random_update(4, size);
    double squares = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const double sum = static_cast<double>(static_cast<std::int64_t>(words[i])) / 0x1p52;
        const double mean = sum * (9.0 / 7.0);
        want[i] = static_cast<float>(static_cast<double>(want[i]) + mean);
        squares += mean * mean;
    }
    std::vector<double> norms;
    for (const std::size_t cut : {size, std::size_t{1}, std::size_t{13}, std::size_t{1024}}) {
        std::vector<float> x = test::random_update(4, size);
        ServerStep step(x, 7, 9);
        for (std::size_t first = 0; first < size; first += cut)
            step.take(std::span(words).subspan(first, std::min(cut, size - first)));
        EXPECT_TRUE(x == want) << cut;
        EXPECT_EQ(step.checksum(), checksum(x)) << cut;
        norms.push_back(step.update_norm());
        EXPECT_EQ(norms.back(), norms.front()) << cut;
    }
    EXPECT_NEAR(norms.front(), std::sqrt(squares), 1e-12 * std::sqrt(squares));
}

TEST(ServerStep, RefusesAnotherLengthAndAnEmptyRoundAndLeavesTheVectorAlone) {
    std::vector<float> x = {1, 2};
    EXPECT_THROW(ServerStep(x, 0, 1), RunError);
    EXPECT_THROW(ServerStep(x, 2, 1), RunError);
    ServerStep step(x, 1, 1);
    EXPECT_THROW(step.take(std::vector<std::uint64_t>(3)), ShapeError);
    EXPECT_EQ(x, (std::vector<float>{1, 2}));
}

TEST(UpdateNorm, IsTheRootOfTheSquaresForEveryLength) {
    for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 100U}) {
        std::vector<float> client(size), global(size);
        double squares = 0;
        for (std::size_t i = 0; i < size; ++i) {
            global[i] = static_cast<float>(i) / 4;
            client[i] = global[i] + static_cast<float>(i % 5) - 2;
            squares += std::pow(static_cast<double>(i % 5) - 2, 2);
        }
        EXPECT_EQ(update_norm(client, global), std::sqrt(squares)) << size;
    }
    EXPECT_THROW(update_norm(std::vector<float>{1}, std::vector<float>{}), ShapeError);
}

TEST(Checksum, IsTheSumOfBitsTimesOddNumbers) {
    EXPECT_EQ(checksum({}), 0U);
    EXPECT_EQ(checksum(std::vector<float>{1}), 0x3f800000U);
    EXPECT_EQ(checksum(std::vector<float>{0, 2}), std::uint64_t{0x40000000} * 0x9e3779b3U);
}

TEST(Checksum, ShowsADifferenceInAnyPlaceAndAnyBit) {
    std::vector<float> x = test::random_update(3, 100);
    const std::uint64_t before = checksum(x);
    for (float& value : x) {
        const float kept = value;
        for (int bit = 0; bit < 32; ++bit) {
            value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(kept) ^ (1U << bit));
            EXPECT_NE(checksum(x), before) << "bit " << bit;
        }
        value = kept;
    }
    std::ranges::reverse(x);
    EXPECT_NE(checksum(x), before);
}

}  // namespace
}  // namespace fedit
