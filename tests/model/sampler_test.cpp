// tests/model/sampler_test.cpp: the choice of the next token on distributions a reader can
// recompute.
#include "fedit/model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fedit/core/error.h"

namespace fedit {
namespace {

using Ids = std::vector<std::int32_t>;

/// Logits of these probabilities.
std::vector<float> logits_of(std::initializer_list<double> probabilities) {
    std::vector<float> logits;
    for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
    return logits;
}

Sampling sampling(double temperature, std::int64_t top_k = 0, double top_p = 1) {
    return {.temperature = temperature, .top_k = top_k, .top_p = top_p};
}

void expect_candidates(const std::vector<Candidate>& got, const std::vector<Candidate>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].id, want[i].id);
        EXPECT_NEAR(got[i].probability, want[i].probability, 1e-6) << "candidate " << i;
    }
}

std::int32_t greedy(std::vector<float> logits, const Ids& context = {}, double penalty = 1) {
    return next_token(logits, context, {.repetition_penalty = penalty}, 0);
}

TEST(Candidates, OfTemperatureOneAreTheSoftmax) {
    expect_candidates(candidates(logits_of({0.5, 0.25, 0.25}), sampling(1)),
                      {{0, 0.5}, {1, 0.25}, {2, 0.25}});
}

TEST(Candidates, AreSharpenedByALowTemperature) {
    // Half the temperature squares the odds: 1/4 : 1/16 : 1/16.
    expect_candidates(candidates(logits_of({0.25, 0.5, 0.25}), sampling(0.5)),
                      {{0, 1.0 / 6}, {1, 4.0 / 6}, {2, 1.0 / 6}});
}

TEST(Candidates, OfTopKAreTheLargestWithTies) {
    const auto logits = logits_of({0.1, 0.4, 0.2, 0.2, 0.1});
    expect_candidates(candidates(logits, sampling(1, 1)), {{1, 1}});
    expect_candidates(candidates(logits, sampling(1, 2)), {{1, 0.5}, {2, 0.25}, {3, 0.25}});
    EXPECT_EQ(candidates(logits, sampling(1, 5)).size(), 5U);
    EXPECT_EQ(candidates(logits, sampling(1, 99)).size(), 5U);
}

TEST(Candidates, OfTopPAreTheFewestThatReachIt) {
    const auto logits = logits_of({0.1, 0.4, 0.3, 0.2});
    expect_candidates(candidates(logits, sampling(1, 0, 0.35)), {{1, 1}});
    expect_candidates(candidates(logits, sampling(1, 0, 0.65)), {{1, 4.0 / 7}, {2, 3.0 / 7}});
    expect_candidates(candidates(logits, sampling(1, 0, 0.85)),
                      {{1, 4.0 / 9}, {2, 3.0 / 9}, {3, 2.0 / 9}});
    expect_candidates(candidates(logits, sampling(1, 0, 1e-6)), {{1, 1}});
}

TEST(Candidates, ThatReachTopPExactlyNeedNoFurtherOne) {
    // The two halves of a half sum to 1 - top_p exactly, so they go.
    expect_candidates(candidates(logits_of({0.25, 0.5, 0.25}), sampling(1, 0, 0.5)), {{1, 1}});
    // Of equals the higher id goes first.
    expect_candidates(candidates(logits_of({0.25, 0.25, 0.25, 0.25}), sampling(1, 0, 0.5)),
                      {{0, 0.5}, {1, 0.5}});
}

TEST(Candidates, AreCutByTopKBeforeTopP) {
    // Of the three best the last, 2/9, lies beyond 0.75; of all four only 0.1 does.
    const auto logits = logits_of({0.1, 0.4, 0.3, 0.2});
    expect_candidates(candidates(logits, sampling(1, 3, 0.75)), {{1, 4.0 / 7}, {2, 3.0 / 7}});
    expect_candidates(candidates(logits, sampling(1, 0, 0.75)),
                      {{1, 4.0 / 9}, {2, 3.0 / 9}, {3, 2.0 / 9}});
}

TEST(Candidates, OfLargeLogitsDoNotOverflow) {
    const std::vector<float> logits{3000, 2999, -3000};
    const double odds = std::exp(-1.0);
    expect_candidates(candidates(logits, sampling(1)),
                      {{0, 1 / (1 + odds)}, {1, odds / (1 + odds)}, {2, 0}});
}

TEST(NextToken, IsTheFirstCandidateWhoseCumulatedProbabilityExceedsTheNumber) {
    const auto pick = [](double uniform) {
        auto logits = logits_of({0.25, 0.5, 0.25});
        return next_token(logits, {}, sampling(1), uniform);
    };
    EXPECT_EQ(pick(0), 0);
    EXPECT_EQ(pick(0.2499), 0);
    EXPECT_EQ(pick(0.2501), 1);
    EXPECT_EQ(pick(0.7499), 1);
    EXPECT_EQ(pick(0.7501), 2);
    EXPECT_EQ(pick(std::nextafter(1.0, 0.0)), 2);
}

TEST(NextToken, OfTemperatureZeroIsTheLargestLogitAndTheLowestIdOfEquals) {
    EXPECT_EQ(greedy({1, 3, 2}), 1);
    EXPECT_EQ(greedy({1, 3, 3}), 1);
    EXPECT_EQ(greedy({-2, -1, -3}), 1);
}

TEST(NextToken, IsPenalisedOnceForATokenOfTheContext) {
    EXPECT_EQ(greedy({2, 3, 1}, {1}, 1.4), 1);
    EXPECT_EQ(greedy({2, 3, 1}, {1}, 1.6), 0) << "3 / 1.6 < 2";
    EXPECT_EQ(greedy({2, 3, 1}, {1, 1, 1}, 1.4), 1) << "once, however often it stands there";
    EXPECT_EQ(greedy({-1.5, -1, -3}, {1}, 1.6), 0) << "-1 x 1.6 < -1.5";
    EXPECT_EQ(greedy({2, 3, 1}, {0, 2}, 0.5), 0) << "2 / 0.5 > 3: a reward";
    EXPECT_EQ(greedy({2, 3, 1}, {0, 1, 2}, 1), 1);
}

TEST(NextToken, IsPenalisedBeforeItIsSampled) {
    std::vector<float> logits{2, 4};
    EXPECT_EQ(next_token(logits, Ids{1}, {.temperature = 1, .repetition_penalty = 2}, 0.49), 0);
    logits = {2, 4};
    EXPECT_EQ(next_token(logits, Ids{1}, {.temperature = 1, .repetition_penalty = 2}, 0.51), 1);
}

TEST(NextToken, OfLogitsThatAreNotFiniteIsAnError) {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
        try {
            greedy({1, bad});
            FAIL() << "accepted";
        } catch (const RunError& error) {
            EXPECT_NE(std::string(error.what()).find("the logit of token 1 is"), std::string::npos);
        }
    }
}

}  // namespace
}  // namespace fedit
