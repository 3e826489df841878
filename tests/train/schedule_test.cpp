// tests/train/schedule_test.cpp: learning rates against the formulas, worked out by hand.
#include "fedit/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace fedit::test {
namespace {

std::vector<double> rates(const Schedule& schedule, std::int64_t total) {
    std::vector<double> out;
    for (std::int64_t step = 0; step < total; ++step) out.push_back(schedule.at(step, total));
    return out;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-15) << i;
}

TEST(Schedule, ConstantStaysAndWarmsUp) {
    expect_near(rates({.learning_rate = 0.5}, 3), {0.5, 0.5, 0.5});
    expect_near(rates({.learning_rate = 0.5, .warmup_steps = 2}, 4), {0, 0.25, 0.5, 0.5});
}

TEST(Schedule, LinearFallsToZeroAfterTheLastStep) {
    expect_near(rates({.kind = LrScheduler::linear, .learning_rate = 1}, 4), {1, 0.75, 0.5, 0.25});
    expect_near(rates({.kind = LrScheduler::linear, .learning_rate = 1, .warmup_steps = 2}, 6),
                {0, 0.5, 1, 0.75, 0.5, 0.25});
}

TEST(Schedule, CosineFallsAlongHalfAWave) {
    const double root = std::sqrt(0.5);
    expect_near(rates({.kind = LrScheduler::cosine, .learning_rate = 1}, 4),
                {1, (1 + root) / 2, 0.5, (1 - root) / 2});
    expect_near(rates({.kind = LrScheduler::cosine, .learning_rate = 2, .warmup_steps = 1}, 3),
                {0, 2, 1});
}

TEST(Schedule, NeverFallsBelowZeroNorRisesAgain) {
    const Schedule linear{.kind = LrScheduler::linear, .learning_rate = 1};
    const Schedule cosine{.kind = LrScheduler::cosine, .learning_rate = 1};
    EXPECT_EQ(linear.at(9, 4), 0);
    EXPECT_NEAR(cosine.at(9, 4), 0, 1e-15);
}

TEST(Schedule, AWarmUpLongerThanTheRunOnlyRises) {
    const Schedule schedule{.kind = LrScheduler::linear, .learning_rate = 1, .warmup_steps = 10};
    expect_near(rates(schedule, 3), {0, 0.1, 0.2});
}

}  // namespace
}  // namespace fedit::test
