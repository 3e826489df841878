// tests/tensor/cross_entropy_test.cpp: loss and gradient through the head, in one chunk and
// several.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

struct Case {
    std::int64_t rows, hidden, vocab, padding;
};

class CrossEntropy : public OnEveryBackend<Case> {
protected:
    void SetUp() override {
        OnEveryBackend::SetUp();
        const auto [rows, hidden, vocab, padding] = test_case();
        x_ = random(rows, hidden, 1);
        head_ = random(vocab, hidden, 2, 0.3);
        for (std::int64_t i = 0; i < rows; ++i) {
            targets_.push_back(static_cast<std::int32_t>(i * 7919 % vocab));
            weight_.push_back(i % 5 == 3 ? 0.0F : 1.0F / static_cast<float>(i % 7 + 2));
        }
    }

    /// The index of each row's largest logit.
    std::vector<std::int32_t> largest_logits() const {
        const Matrix logits = naive::multiply(x_, transpose(head_));
        std::vector<std::int32_t> best;
        for (std::int64_t i = 0; i < logits.rows; ++i) {
            const auto row = logits.values.begin() + i * logits.cols;
            best.push_back(
                static_cast<std::int32_t>(std::max_element(row, row + logits.cols) - row));
        }
        return best;
    }

    Matrix x_, head_;
    std::vector<std::int32_t> targets_;
    std::vector<float> weight_;
};

TEST_P(CrossEntropy, AgreesWithDoubleLoops) {
    const auto [rows, hidden, vocab, padding] = test_case();
    const DeviceWeight head(backend(), head_, dtype());
    const DeviceMatrix x = activations(x_, hidden + padding),
                       dx = results({rows, hidden, hidden + padding});
    Matrix loss(rows, 1), loss_only(rows, 1);
    std::vector<std::int32_t> best(targets_.size());
    backend().cross_entropy(loss.values, dx.view(), {}, x.view(), head.get(), targets_, weight_,
                            best);
    backend().cross_entropy(loss_only.values, {}, {}, x.view(), head.get(), targets_, {}, {});
    const Matrix want = naive::cross_entropy(x_, head_, targets_);
    EXPECT_TRUE(close(loss, want));
    EXPECT_TRUE(close(loss_only, want));
    EXPECT_EQ(best, largest_logits());
    const naive::HeadGradients gradients =
        naive::cross_entropy_backward(x_, head_, targets_, weight_);
    EXPECT_TRUE(close_enough(dx.values(), gradients.dx));

    const Matrix before = random_matrix(vocab, hidden, 3, 0.1);
    const DeviceMatrix dhead(backend(), before, hidden + padding);
    backend().cross_entropy(loss.values, dx.view(), dhead.view(), x.view(), head.get(), targets_,
                            weight_, {});
    Matrix sum = before;
    for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += gradients.dhead.values[i];
    EXPECT_TRUE(close_enough(dhead.values(), sum));
    EXPECT_TRUE(close_enough(dx.values(), gradients.dx));
}

INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropy,
                         on_every_backend({Case{1, 1, 1, 0}, Case{7, 16, 50, 0},
                                           Case{33, 24, 1027, 3}, Case{60, 2, 600000, 0}}),
                         named_by([](const Case& c) {
                             return std::to_string(c.rows) + "x" + std::to_string(c.hidden) + "x" +
                                    std::to_string(c.vocab);
                         }));

/// Logits that a test writes down itself.
struct OneRow {};
class CrossEntropyOfOneRow : public OnEveryBackend<OneRow> {};

TEST_P(CrossEntropyOfOneRow, IsTheLowestOfEqualLogits) {
    Matrix x(1, 1, 1), head(4, 1, 2);
    head(0, 0) = 1;
    const DeviceWeight weight(backend(), head, dtype());
    const DeviceMatrix device_x = activations(x);
    const std::vector<std::int32_t> target{3};
    std::vector<double> loss(1);
    std::vector<std::int32_t> best(1);
    backend().cross_entropy(loss, {}, {}, device_x.view(), weight.get(), target, {}, best);
    EXPECT_EQ(best, std::vector<std::int32_t>{1});
}

TEST_P(CrossEntropyOfOneRow, LargeLogitsDoNotOverflow) {
    Matrix x(1, 1, 1), head(3, 1);
    head(0, 0) = 500, head(1, 0) = 400, head(2, 0) = -500;
    const DeviceWeight weight(backend(), head, dtype());
    const DeviceMatrix device_x = activations(x);
    const std::vector<std::int32_t> target{2};
    std::vector<double> loss(1);
    std::vector<std::int32_t> best(1);
    backend().cross_entropy(loss, {}, {}, device_x.view(), weight.get(), target, {}, best);
    EXPECT_NEAR(loss[0], 1000, 1e-3);
    EXPECT_EQ(best[0], 0);
}

TEST_P(CrossEntropyOfOneRow, ANanAnywhereInTheLogitsIsSeen) {
    Matrix x(1, 1, 1), head(40, 1, 0.5);
    head(17, 0) = NAN;
    const DeviceWeight weight(backend(), head, dtype());
    const DeviceMatrix device_x = activations(x);
    const std::vector<std::int32_t> target{2};
    std::vector<double> loss(1);
    std::vector<std::int32_t> best(1);
    backend().cross_entropy(loss, {}, {}, device_x.view(), weight.get(), target, {}, best);
    EXPECT_TRUE(std::isnan(loss[0]));
    EXPECT_EQ(best[0], -1);
}

INSTANTIATE_TEST_SUITE_P(BackEnds, CrossEntropyOfOneRow, on_every_backend({OneRow{}}),
                         named_by([](const OneRow&) { return std::string("logits"); }));

}  // namespace
}  // namespace fedit::test
