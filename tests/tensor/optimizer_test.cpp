// tests/tensor/optimizer_test.cpp: AdamW and SGD over several steps in double, and elementwise
// work.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

/// Longer than two blocks of work and no multiple of a vector.
constexpr std::int64_t size = 9001;

std::span<float> span_of(const DeviceMatrix& m) {
    return {m.floats(), static_cast<std::size_t>(m.view().cols)};
}

/// Flat vectors are fp32 whatever the activations are.
struct Flat {};
class Optimizer : public OnEveryBackend<Flat> {
protected:
    DeviceMatrix vector(const Matrix& values) { return DeviceMatrix(backend(), values); }
};

TEST_P(Optimizer, AdamWFollowsPyTorchsFormula) {
    Matrix x = random_matrix(1, size, 1), m(1, size), v(1, size);
    const DeviceMatrix device_x = vector(x), device_m = vector(m), device_v = vector(v);
    const Backend::AdamW settings{
        .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .step = 0};
    for (std::int64_t step = 1; step <= 5; ++step) {
        const Matrix g = random_matrix(1, size, static_cast<std::uint32_t>(10 + step));
        Backend::AdamW now = settings;
        now.step = step;
        backend().adamw(span_of(device_x), span_of(vector(g)), span_of(device_m), span_of(device_v),
                        now);
        const double correction1 = 1 - std::pow(0.9, step), correction2 = 1 - std::pow(0.999, step);
        for (std::int64_t i = 0; i < size; ++i) {
            x(0, i) *= 1 - settings.lr * settings.weight_decay;
            m(0, i) = 0.9 * m(0, i) + 0.1 * g(0, i);
            v(0, i) = 0.999 * v(0, i) + 0.001 * g(0, i) * g(0, i);
            x(0, i) -= settings.lr / correction1 * m(0, i) /
                       (std::sqrt(v(0, i)) / std::sqrt(correction2) + settings.eps);
        }
    }
    EXPECT_TRUE(close(device_x.values(), x));
    EXPECT_TRUE(close(device_m.values(), m));
    EXPECT_TRUE(close(device_v.values(), v));
}

TEST_P(Optimizer, AdamWDecaysAndDividesAsWrittenForOneElement) {
    const DeviceMatrix x = vector(Matrix(1, 1, 2)), g = vector(Matrix(1, 1, 0.5)),
                       m = vector(Matrix(1, 1)), v = vector(Matrix(1, 1));
    backend().adamw(
        span_of(x), span_of(g), span_of(m), span_of(v),
        {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 0.5, .weight_decay = 0.2, .step = 1});
    // After one step m / bc1 = g and sqrt(v / bc2) = |g|: x = 2 (1 - .02) - .1 * .5 / (.5 + .5).
    EXPECT_NEAR(x.values()(0, 0), 1.96 - 0.05, 1e-6);
    EXPECT_NEAR(m.values()(0, 0), 0.05, 1e-8);
    EXPECT_NEAR(v.values()(0, 0), 0.00025, 1e-10);
}

TEST_P(Optimizer, SgdSubtractsTheDecayedGradient) {
    Matrix x = random_matrix(1, size, 1);
    const Matrix g = random_matrix(1, size, 2);
    const DeviceMatrix device_x = vector(x), device_g = vector(g);
    backend().sgd(span_of(device_x), span_of(device_g), 0.05, 0.3);
    for (std::int64_t i = 0; i < size; ++i) x(0, i) -= 0.05 * (g(0, i) + 0.3 * x(0, i));
    EXPECT_TRUE(close(device_x.values(), x));
}

TEST_P(Optimizer, ScaleFillAndNorm) {
    const Matrix x = random_matrix(1, size, 1);
    const DeviceMatrix device_x = vector(x);
    const std::span<float> values = span_of(device_x);
    EXPECT_NEAR(backend().squared_norm(values), dot(x, x), 1e-10 * dot(x, x));
    EXPECT_EQ(backend().squared_norm({}), 0);
    backend().scale(values, 0.5F);
    const Matrix half = device_x.values();
    for (std::int64_t i = 0; i < size; ++i) {
        ASSERT_EQ(half(0, i), static_cast<float>(0.5 * x(0, i)));
    }
    backend().fill(values, 3);
    EXPECT_EQ(backend().squared_norm(values), 9.0 * size);
}

TEST_P(Optimizer, CopyAndDistance) {
    const Matrix x = random_matrix(1, size, 1), x0 = random_matrix(1, size, 2);
    const DeviceMatrix device_x = vector(x), device_x0 = vector(x0), copied = vector(x0);
    Matrix difference = x;
    for (std::int64_t i = 0; i < size; ++i) difference(0, i) -= x0(0, i);
    const double want = dot(difference, difference);
    EXPECT_NEAR(backend().squared_distance(span_of(device_x), span_of(device_x0)), want,
                1e-6 * want);
    EXPECT_EQ(backend().squared_distance({}, {}), 0);
    backend().copy(span_of(copied), span_of(device_x));
    EXPECT_TRUE(same_bits(copied.values(), device_x.values()));
    EXPECT_EQ(backend().squared_distance(span_of(copied), span_of(device_x)), 0);
}

TEST_P(Optimizer, StepsAndNormHaveTheBitsOfOneThreadOfTheCpu) {
    const auto cpu = make_cpu_backend(1);
    const Matrix x = random_matrix(1, size, 1), g = random_matrix(1, size, 2);
    const Backend::AdamW settings{
        .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .step = 3};
    const auto step = [&](Backend& on) {
        const DeviceMatrix device_x(on, x), device_g(on, g), m(on, Matrix(1, size)),
            v(on, Matrix(1, size));
        on.adamw(span_of(device_x), span_of(device_g), span_of(m), span_of(v), settings);
        on.sgd(span_of(device_x), span_of(device_g), 0.05, 0.3);
        return std::tuple(device_x.values(), on.squared_norm(span_of(device_x)),
                          on.squared_distance(span_of(device_x), span_of(device_g)));
    };
    const auto [got, got_norm, got_distance] = step(backend());
    const auto [want, want_norm, want_distance] = step(*cpu);
    EXPECT_TRUE(same_bits(got, want));
    EXPECT_EQ(got_norm, want_norm);
    EXPECT_EQ(got_distance, want_distance);
}

INSTANTIATE_TEST_SUITE_P(BackEnds, Optimizer, on_every_backend({Flat{}}),
                         named_by([](const Flat&) { return std::string("flat"); }));

}  // namespace
}  // namespace fedit::test
