// tests/federation/plan_test.cpp: who is sampled, with what weight, and which rank trains whom.
#include "fedit/federation/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"

namespace fedit {
namespace {

using Records = std::vector<std::int64_t>;

TEST(SampleSize, RoundsAndIsAtLeastOne) {
    EXPECT_EQ(sample_size(0.29, 100), 29);  // int(0.29 * 100) is 28
    EXPECT_EQ(sample_size(0.25, 10), 3);
    EXPECT_EQ(sample_size(0.0, 10), 1);
    EXPECT_EQ(sample_size(1.0, 7), 7);
}

TEST(SampleSize, RefusesAFractionOutsideZeroToOne) {
    for (const double fraction : {-0.1, 1.1, std::nan("")})
        EXPECT_THROW(sample_size(fraction, 10), InputError) << fraction;
}

TEST(PlanRound, SamplesWithoutReplacementInAscendingOrder) {
    const Records records(50, 3);
    for (int round = 0; round < 200; ++round) {
        const RoundPlan plan = plan_round({.seed = 1, .fraction = 0.3}, round, records);
        ASSERT_EQ(plan.round, round);
        ASSERT_EQ(plan.clients.size(), 15U);
        for (std::size_t i = 1; i < plan.clients.size(); ++i)
            ASSERT_LT(plan.clients[i - 1].client, plan.clients[i].client);
    }
}

TEST(PlanRound, WeighsByRecordsAndNeverPlansAClientWithoutAny) {
    const Records records = {4, 0, 10, 2, 0};
    const RoundPlan all = plan_round({.seed = 1}, 0, records);
    EXPECT_EQ(all.records, 16);
    EXPECT_EQ(all.clients,
              (std::vector<PlannedClient>{{0, 4, 0.25}, {2, 10, 0.625}, {3, 2, 0.125}}));
    for (int round = 0; round < 200; ++round) {
        const RoundPlan plan = plan_round({.seed = 1, .fraction = 0.4}, round, records);
        ASSERT_EQ(plan.clients.size(), 2U);  // of all five clients
        for (const PlannedClient& planned : plan.clients)
            ASSERT_EQ(planned.records, records[planned.client]);
        ASSERT_NEAR(plan.clients[0].weight + plan.clients[1].weight, 1, 1e-15);
        ASSERT_GT(plan.clients[0].records, 0);
    }
}

TEST(PlanRound, IsAPureFunctionOfSeedAndRound) {
    const Records records(40, 5);
    std::set<std::vector<int>> seen;
    const auto sampled = [&](std::uint64_t seed, int round) {
        std::vector<int> clients;
        const RoundPlan plan = plan_round({.seed = seed, .fraction = 0.5}, round, records);
        for (const PlannedClient& planned : plan.clients) clients.push_back(planned.client);
        return clients;
    };
    for (const std::uint64_t seed : {0, 1, 2})
        for (int round = 0; round < 10; ++round) {
            EXPECT_EQ(sampled(seed, round), sampled(seed, round));
            seen.insert(sampled(seed, round));
        }
    EXPECT_EQ(seen.size(), 30U);
}

TEST(PlanRound, SamplesEveryClientEquallyOften) {
    const Records records = {1, 100, 1, 1, 50, 1, 1, 1, 1, 1};
    constexpr int rounds = 3000;
    std::vector<int> times(records.size(), 0);
    for (int round = 0; round < rounds; ++round)
        for (const PlannedClient& planned :
             plan_round({.seed = 3, .fraction = 0.3}, round, records).clients)
            ++times[planned.client];
    const double six_sigma = 6 * std::sqrt(rounds * 0.3 * 0.7);
    for (const int count : times) EXPECT_NEAR(count, rounds * 0.3, six_sigma);
}

TEST(PlanRound, WithoutAnyRecordIsAnInputError) {
    EXPECT_THROW(plan_round({}, 0, Records{}), InputError);
    try {
        plan_round({}, 0, Records{0, 0, 0});
        FAIL() << "nothing was thrown";
    } catch (const InputError& error) {
        EXPECT_EQ(error.faults().at(0).what, "no client has a record with a target to learn from");
        EXPECT_EQ(error.faults().at(0).where, "3 clients");
    }
}

using Placement = std::vector<std::vector<std::size_t>>;

TEST(PlanRound, FormsCohortsOfSimilarClientsTheLargestFirst) {
    const Records records = {4, 9, 2, 9, 7};
    const auto cohorts = [&](int size) {
        return plan_round({.seed = 1, .cohort = size}, 0, records).cohorts;
    };
    EXPECT_EQ(cohorts(1), (Placement{{1}, {3}, {4}, {0}, {2}}));
    EXPECT_EQ(cohorts(2), (Placement{{1}, {3, 4}, {0, 2}}));
    EXPECT_EQ(cohorts(4), (Placement{{1, 3}, {4, 0, 2}}));  // as few as can be, of even size
    EXPECT_EQ(cohorts(5), (Placement{{1, 3, 4, 0, 2}}));
    EXPECT_EQ(cohorts(100), cohorts(5));
    EXPECT_THROW(cohorts(0), std::logic_error);
}

TEST(PlanRound, PutsEverySampledClientIntoOneCohortAndSamplesTheSameClients) {
    RandomStream stream({.seed = 4, .purpose = Purpose::synthetic_data});
    for (int trial = 0; trial < 100; ++trial) {
        Records records(1 + stream.below(40));
        for (std::int64_t& n : records) n = static_cast<std::int64_t>(1 + stream.below(30));
        const int size = 1 + static_cast<int>(stream.below(9));
        const PlanConfig config{.seed = 1, .fraction = 0.7, .cohort = size};
        const RoundPlan plan = plan_round(config, trial, records);
        EXPECT_EQ(plan.clients, plan_round({.seed = 1, .fraction = 0.7}, trial, records).clients);
        std::vector<std::size_t> all;
        std::int64_t smallest = std::numeric_limits<std::int64_t>::max();
        for (const std::vector<std::size_t>& cohort : plan.cohorts) {
            ASSERT_FALSE(cohort.empty());
            ASSERT_LE(cohort.size(), static_cast<std::size_t>(size));
            for (const std::size_t i : cohort) {
                EXPECT_LE(plan.clients.at(i).records, smallest);
                smallest = plan.clients[i].records;
                all.push_back(i);
            }
        }
        std::ranges::sort(all);
        std::vector<std::size_t> want(plan.clients.size());
        std::iota(want.begin(), want.end(), 0);
        EXPECT_EQ(all, want);
    }
}

double makespan(const Placement& placement, const std::vector<double>& cost) {
    double longest = 0;
    for (const auto& mine : placement) {
        double load = 0;
        for (const std::size_t i : mine) load += cost[i];
        longest = std::max(longest, load);
    }
    return longest;
}

/// The shortest makespan, by trying every assignment.
double best_makespan(const std::vector<double>& cost, int ranks) {
    double best = std::numeric_limits<double>::infinity();
    const auto cases = static_cast<long>(std::pow(ranks, cost.size()));
    for (long code = 0; code < cases; ++code) {
        Placement placement(ranks);
        long rest = code;
        for (std::size_t i = 0; i < cost.size(); ++i, rest /= ranks)
            placement[rest % ranks].push_back(i);
        best = std::min(best, makespan(placement, cost));
    }
    return best;
}

TEST(Place, PutsTheLongestFirstAndTheRestWhereThereIsLeast) {
    EXPECT_EQ(place(std::vector<double>{1, 5, 3, 4}, 2), (Placement{{1, 0}, {3, 2}}));
    EXPECT_EQ(place(std::vector<double>{2, 3}, 4), (Placement{{1}, {0}, {}, {}}));
    EXPECT_EQ(place(std::vector<double>{}, 2), (Placement{{}, {}}));
}

TEST(Place, BreaksTiesByPlaceThenByFewestClientsThenByRank) {
    EXPECT_EQ(place(std::vector<double>{1, 1, 1, 1, 1}, 2), (Placement{{0, 2, 4}, {1, 3}}));
    EXPECT_EQ(place(std::vector<double>{0, 0, 0, 0}, 2), (Placement{{0, 2}, {1, 3}}));
}

TEST(Place, PlacesEveryClientOnceAndIsNearTheShortestMakespan) {
    RandomStream stream({.seed = 3, .purpose = Purpose::synthetic_data});
    for (int trial = 0; trial < 60; ++trial) {
        std::vector<double> cost(1 + stream.below(7));
        for (double& c : cost) c = static_cast<double>(1 + stream.below(50));
        const int ranks = 1 + static_cast<int>(stream.below(3));

        const Placement placement = place(cost, ranks);

        std::vector<std::size_t> placed;
        for (const auto& mine : placement) {
            placed.insert(placed.end(), mine.begin(), mine.end());
            EXPECT_TRUE(std::ranges::is_sorted(mine, std::greater<>(),
                                               [&](std::size_t i) { return cost[i]; }));
        }
        std::ranges::sort(placed);
        std::vector<std::size_t> all(cost.size());
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(placed, all);
        // Graham 1969: longest-first is within 4/3 - 1/(3m) of the best.
        EXPECT_LE(makespan(placement, cost),
                  (4.0 / 3 - 1.0 / (3 * ranks)) * best_makespan(cost, ranks) + 1e-9);
        EXPECT_EQ(placement, place(cost, ranks));
    }
}

TEST(Place, RefusesWhatCannotBeOrdered) {
    EXPECT_THROW(place(std::vector<double>{1}, 0), std::logic_error);
    for (const double cost : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()})
        EXPECT_THROW(place(std::vector<double>{1, cost}, 2), std::logic_error) << cost;
}

}  // namespace
}  // namespace fedit
