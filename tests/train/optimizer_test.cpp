// tests/train/optimizer_test.cpp: clipping and steps against the formulas in double.
#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fedit/core/error.h"

namespace fedit::test {
namespace {

class OptimizerTest : public testing::Test {
protected:
    /// One step from `x_` with gradient `g_`; gives the adapter after it.
    std::vector<float> step(const LocalConfig& config, double rate) {
        AdapterMemory memory(*backend_, x_.size(), config.optimizer);
        AdapterInTraining adapter(*backend_, config, memory, x_.size(), {});
        adapter.start_from(x_);
        backend_->upload(adapter.gradient(), std::as_bytes(std::span<const float>(g_)));
        adapter.step(rate, adapter.gradient_norm());
        state_ = adapter.download_state();
        return adapter.download_x();
    }
    std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
    std::vector<float> x_{1, -2, 0.5F}, g_{3, 0, -4};
    OptimizerState state_;
};

TEST_F(OptimizerTest, SgdMovesAgainstTheGradientAndTheDecay) {
    const LocalConfig config{.optimizer = OptimizerKind::sgd, .weight_decay = 0.1};
    const std::vector<float> x = step(config, 0.5);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(x[i], x_[i] - 0.5 * (double{g_[i]} + 0.1 * double{x_[i]}), 1e-6);
    }
    EXPECT_TRUE(state_.m.empty());
    EXPECT_EQ(state_.step, 1);
}

TEST_F(OptimizerTest, ClipsToTheLargestNormAsPyTorchDoes) {
    LocalConfig config{.optimizer = OptimizerKind::sgd, .max_grad_norm = 1};
    const std::vector<float> clipped = step(config, 1);
    const double factor = 1 / (5 + 1e-6);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(clipped[i], x_[i] - factor * g_[i], 1e-6);
    config.max_grad_norm = 6;  // above the norm of 5: nothing changes
    const std::vector<float> whole = step(config, 1);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(whole[i], x_[i] - g_[i]);
}

TEST_F(OptimizerTest, FirstAdamWStepMovesByTheRateAndDecaysApart) {
    const LocalConfig config{.weight_decay = 0.1};
    const std::vector<float> x = step(config, 0.01);
    for (std::size_t i = 0; i < 3; ++i) {
        const double g = g_[i], sign = g / (std::abs(g) + 1e-8);  // bias-corrected m / sqrt(v)
        EXPECT_NEAR(x[i], x_[i] * (1 - 0.01 * 0.1) - 0.01 * sign, 1e-6);
        EXPECT_NEAR(state_.m[i], 0.1 * g, 1e-6);
        EXPECT_NEAR(state_.v[i], 0.001 * g * g, 1e-8);
    }
}

TEST_F(OptimizerTest, RefusesAStateOfAnotherSize) {
    const OptimizerState wrong{.m = {1, 2}, .v = {1, 2}, .step = 3};
    AdapterMemory memory(*backend_, 3, OptimizerKind::adamw);
    EXPECT_THROW(AdapterInTraining(*backend_, LocalConfig{}, memory, 3, wrong), ShapeError);
}

}  // namespace
}  // namespace fedit::test
