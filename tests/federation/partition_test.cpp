// tests/federation/partition_test.cpp: what every partition promises, and what each kind adds.
#include "fedit/federation/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <stdexcept>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"

namespace fedit {
namespace {

using Category = std::vector<std::int32_t>;

constexpr int num_categories = 8;

/// Records of eight categories, the later the more frequent, in mixed order.
Category mixed_categories(std::size_t size) {
    RandomStream stream({.seed = 9, .purpose = Purpose::synthetic_data});
    Category category(size);
    for (auto& c : category)
        c = static_cast<std::int32_t>(
            std::max(stream.below(num_categories), stream.below(num_categories)));
    return category;
}

Partition make(const PartitionConfig& config, const Category& category) {
    return make_partition(config, category, num_categories);
}

std::vector<std::int64_t> sizes(const Partition& partition) {
    std::vector<std::int64_t> sizes;
    for (const auto& mine : partition.records)
        sizes.push_back(static_cast<std::int64_t>(mine.size()));
    return sizes;
}

/// The faults of a configuration that must be refused, as one text.
std::string refusal(const PartitionConfig& config, std::size_t num_records) {
    try {
        make(config, Category(num_records, 0));
    } catch (const InputError& error) {
        return error.what();
    }
    return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

class EveryKind : public testing::TestWithParam<PartitionKind> {};

TEST_P(EveryKind, DealsEveryRecordToExactlyOneClientInAscendingOrder) {
    for (const int clients : {1, 2, 7, 10}) {
        const auto category = mixed_categories(1003);
        const Partition partition =
            make({.kind = GetParam(), .num_clients = clients, .seed = 4}, category);
        ASSERT_EQ(partition.records.size(), static_cast<std::size_t>(clients));
        std::vector<std::int64_t> dealt;
        for (const auto& mine : partition.records) {
            EXPECT_TRUE(std::ranges::is_sorted(mine));
            EXPECT_FALSE(mine.empty());
            dealt.insert(dealt.end(), mine.begin(), mine.end());
        }
        std::ranges::sort(dealt);
        std::vector<std::int64_t> all(category.size());
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(dealt, all) << clients << " clients";
    }
}

TEST_P(EveryKind, IsAFunctionOfTheSeed) {
    const auto category = mixed_categories(500);
    std::set<std::vector<std::vector<std::int64_t>>> seen;
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const PartitionConfig config{.kind = GetParam(), .num_clients = 6, .seed = seed};
        EXPECT_EQ(make(config, category).records, make(config, category).records);
        seen.insert(make(config, category).records);
    }
    EXPECT_EQ(seen.size(), 5U);
}

TEST_P(EveryKind, RefusesMoreClientsThanRecordsWithBothNumbers) {
    const auto text = refusal({.kind = GetParam(), .num_clients = 12}, 11);
    EXPECT_TRUE(contains(text, "11 records cannot be dealt to 12 clients")) << text;
    EXPECT_TRUE(contains(text, "--num-clients = 12")) << text;
    EXPECT_TRUE(
        contains(refusal({.kind = GetParam(), .num_clients = 0}, 5), "at least one client"));
    EXPECT_TRUE(contains(refusal({.kind = GetParam()}, 0), "0 records cannot be dealt"));
}

std::string kind_name(const testing::TestParamInfo<PartitionKind>& kind) {
    constexpr const char* names[] = {"iid", "dirichlet", "shards"};
    return names[static_cast<int>(kind.param)];
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind,
                         testing::Values(PartitionKind::iid, PartitionKind::dirichlet,
                                         PartitionKind::shards),
                         kind_name);

TEST(Iid, SizesDifferByAtMostOneAndCategoriesAreMixed) {
    const auto category = mixed_categories(1003);
    const Partition partition = make({.num_clients = 10}, category);
    const auto [least, most] = std::ranges::minmax(sizes(partition));
    EXPECT_EQ(least, 100);
    EXPECT_EQ(most, 101);
    for (const auto& mine : partition.records) {
        std::set<std::int32_t> held;
        for (const auto i : mine) held.insert(category[i]);
        EXPECT_GE(held.size(), 6U);
    }
}

TEST(Shards, AClientHoldsFewCategoriesAndEvenShares) {
    Category category(1000);
    for (std::size_t i = 0; i < category.size(); ++i)
        category[i] = static_cast<std::int32_t>(i % num_categories);
    const Partition partition =
        make({.kind = PartitionKind::shards, .num_clients = 20, .shards_per_client = 2}, category);
    for (const auto& mine : partition.records) {
        std::set<std::int32_t> held;
        for (const auto i : mine) held.insert(category[i]);
        EXPECT_LE(held.size(), 2U);  // 125 records a category, 25 a shard: none crosses
        EXPECT_EQ(mine.size(), 50U);
    }
}

TEST(Shards, RefusesMoreShardsThanRecords) {
    const PartitionConfig config{
        .kind = PartitionKind::shards, .num_clients = 10, .shards_per_client = 3};
    const auto text = refusal(config, 29);
    EXPECT_TRUE(contains(text, "29 records cannot be cut into 30 shards")) << text;
    EXPECT_TRUE(contains(text, "--shards-per-client = 3")) << text;
    EXPECT_EQ(refusal(config, 30), "accepted");
}

TEST(Dirichlet, EveryClientHasTheLeastNumberOfRecords) {
    const auto category = mixed_categories(15000);
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
        const auto held = sizes(make({.kind = PartitionKind::dirichlet,
                                      .num_clients = 50,
                                      .alpha = 0.5,
                                      .min_records = 40,
                                      .seed = seed},
                                     category));
        EXPECT_GE(*std::ranges::min_element(held), 40);
    }
}

TEST(Dirichlet, AClientWithItsShareGetsNothingOfLaterCategories) {
    const auto category = mixed_categories(4000);
    const Partition partition =
        make({.kind = PartitionKind::dirichlet, .num_clients = 10}, category);
    int filled_early = 0;
    for (const auto& mine : partition.records) {
        std::vector<int> of(num_categories, 0);
        for (const auto i : mine) ++of[category[i]];
        int held = 0;
        for (int c = 0; c < num_categories; ++c) {
            if (held >= 400) {
                EXPECT_EQ(of[c], 0) << "category " << c << " after " << held << " records";
                ++filled_early;
            }
            held += of[c];
        }
    }
    EXPECT_GT(filled_early, 0);
}

TEST(Dirichlet, SkewFollowsAlpha) {
    // One category, so no client is full: E[sum of squared shares] = (alpha + 1) / (n alpha + 1).
    constexpr int clients = 20, draws = 200, num_records = 20000;
    for (const double alpha : {0.1, 0.5, 2.0, 100.0}) {
        double mean = 0;
        for (std::uint64_t seed = 0; seed < draws; ++seed) {
            const auto held = sizes(make({.kind = PartitionKind::dirichlet,
                                          .num_clients = clients,
                                          .alpha = alpha,
                                          .min_records = 0,
                                          .seed = seed},
                                         Category(num_records, 0)));
            for (const auto size : held)
                mean += std::pow(static_cast<double>(size) / num_records, 2) / draws;
        }
        const double expected = (alpha + 1) / (clients * alpha + 1);
        EXPECT_NEAR(mean, expected, 0.15 * expected) << "alpha " << alpha;
    }
}

TEST(Dirichlet, TheSmallestAlphaStillDealsEveryRecord) {
    const auto category = mixed_categories(300);
    const auto held = sizes(
        make({.kind = PartitionKind::dirichlet, .num_clients = 40, .alpha = 1e-6, .min_records = 0},
             category));
    EXPECT_EQ(std::accumulate(held.begin(), held.end(), std::int64_t{0}), 300);
    EXPECT_LE(std::ranges::count_if(held, [](auto size) { return size > 0; }), num_categories);
}

TEST(Dirichlet, GivesUpWithTheBestMinimumAndTheOptions) {
    const auto text = refusal({.kind = PartitionKind::dirichlet,
                               .num_clients = 20,
                               .alpha = 0.1,
                               .min_records = 40,
                               .seed = 3},
                              1000);
    EXPECT_TRUE(contains(text,
                         "no Dirichlet partition in 1000 redraws gave each of 20 clients 40 "
                         "records; the best gave "))
        << text;
    EXPECT_TRUE(contains(text,
                         "1000 records, --num-clients = 20, --alpha = 0.1, --min-records = "
                         "40, --seed = 3"))
        << text;
}

TEST(Dirichlet, RefusesWhatNoDrawCanMeetAndTellsAllFaultsAtOnce) {
    const auto text = refusal(
        {.kind = PartitionKind::dirichlet, .num_clients = 10, .alpha = 0, .min_records = 40}, 399);
    EXPECT_TRUE(contains(text, "399 records are too few for 10 clients with at least 40 each"))
        << text;
    EXPECT_TRUE(contains(text, "--alpha = 0")) << text;
    EXPECT_TRUE(contains(refusal({.kind = PartitionKind::dirichlet, .min_records = -1}, 100),
                         "--min-records = -1"));
    EXPECT_TRUE(contains(refusal({.kind = PartitionKind::dirichlet, .alpha = std::nan("")}, 100),
                         "--alpha = nan"));
}

TEST(MakePartition, MistakesOfTheCallerAreLogicErrors) {
    EXPECT_THROW(make({.kind = PartitionKind::files}, Category(100, 0)), std::logic_error);
    EXPECT_THROW(make({}, Category(100, num_categories)), std::logic_error);
    EXPECT_THROW(make({}, Category(100, -1)), std::logic_error);
}

}  // namespace
}  // namespace fedit
