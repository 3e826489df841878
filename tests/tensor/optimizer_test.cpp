// tests/tensor/optimizer_test.cpp: AdamW and SGD over several steps in double, and elementwise
// work.
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

/// Longer than two blocks of work and no multiple of a vector.
constexpr std::int64_t size = 9001;

TEST(Optimizer, AdamWFollowsPyTorchsFormula) {
    const auto backend = make_cpu_backend(2);
    Matrix x = random_matrix(1, size, 1), m(1, size), v(1, size);
    std::vector<float> fx = to_floats(x), fm(size), fv(size);
    const Backend::AdamW settings{
        .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .step = 0};
    for (std::int64_t step = 1; step <= 5; ++step) {
        const Matrix g = random_matrix(1, size, static_cast<std::uint32_t>(10 + step));
        Backend::AdamW now = settings;
        now.step = step;
        backend->adamw(fx, to_floats(g), fm, fv, now);
        const double correction1 = 1 - std::pow(0.9, step), correction2 = 1 - std::pow(0.999, step);
        for (std::int64_t i = 0; i < size; ++i) {
            x(0, i) *= 1 - settings.lr * settings.weight_decay;
            m(0, i) = 0.9 * m(0, i) + 0.1 * g(0, i);
            v(0, i) = 0.999 * v(0, i) + 0.001 * g(0, i) * g(0, i);
            x(0, i) -= settings.lr / correction1 * m(0, i) /
                       (std::sqrt(v(0, i)) / std::sqrt(correction2) + settings.eps);
        }
    }
    Matrix got(1, size);
    got.values.assign(fx.begin(), fx.end());
    EXPECT_TRUE(close(got, x));
}

TEST(Optimizer, AdamWDecaysAndDividesAsWrittenForOneElement) {
    const auto backend = make_cpu_backend(1);
    std::vector<float> x{2}, m{0}, v{0};
    const std::vector<float> g{0.5F};
    backend->adamw(
        x, g, m, v,
        {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 0.5, .weight_decay = 0.2, .step = 1});
    // After one step m / bc1 = g and sqrt(v / bc2) = |g|: x = 2 (1 - .02) - .1 * .5 / (.5 + .5).
    EXPECT_NEAR(x[0], 1.96 - 0.05, 1e-6);
    EXPECT_NEAR(m[0], 0.05, 1e-8);
    EXPECT_NEAR(v[0], 0.00025, 1e-10);
}

TEST(Optimizer, SgdSubtractsTheDecayedGradient) {
    const auto backend = make_cpu_backend(2);
    Matrix x = random_matrix(1, size, 1);
    const Matrix g = random_matrix(1, size, 2);
    std::vector<float> fx = to_floats(x);
    backend->sgd(fx, to_floats(g), 0.05, 0.3);
    for (std::int64_t i = 0; i < size; ++i) x(0, i) -= 0.05 * (g(0, i) + 0.3 * x(0, i));
    Matrix got(1, size);
    got.values.assign(fx.begin(), fx.end());
    EXPECT_TRUE(close(got, x));
}

TEST(Optimizer, ScaleFillAndNorm) {
    const auto one = make_cpu_backend(1), two = make_cpu_backend(2);
    const Matrix x = random_matrix(1, size, 1);
    std::vector<float> fx = to_floats(x);
    EXPECT_NEAR(one->squared_norm(fx), dot(x, x), 1e-10 * dot(x, x));
    EXPECT_EQ(one->squared_norm(fx), two->squared_norm(fx));
    EXPECT_EQ(one->squared_norm({}), 0);
    two->scale(fx, 0.5F);
    for (std::int64_t i = 0; i < size; ++i) {
        ASSERT_EQ(fx[static_cast<std::size_t>(i)], static_cast<float>(0.5 * x(0, i)));
    }
    two->fill(fx, 3);
    EXPECT_EQ(one->squared_norm(fx), 9.0 * size);
}

}  // namespace
}  // namespace fedit::test
