// tests/tensor/rms_norm_test.cpp: RMSNorm, its residual addition, and its backward.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

constexpr float eps = 1e-3F;

class RmsNorm : public OnEveryBackend<Shape> {};

TEST_P(RmsNorm, AgreesWithDoubleLoops) {
    const auto [rows, cols, stride] = test_case();
    const Matrix x = random(rows, cols, 1), gain = random_matrix(1, cols, 2);
    const DeviceMatrix device_x = activations(x, stride), device_gain(backend(), gain),
                       y = results(test_case());
    backend().rms_norm(y.view(), device_x.view(), {}, device_gain.floats(), eps);
    EXPECT_TRUE(close_enough(y.values(), naive::rms_norm(x, gain, eps)));
    EXPECT_TRUE(same_bits(device_x.values(), x));
}

TEST_P(RmsNorm, AddsTheResidualFirst) {
    const auto [rows, cols, stride] = test_case();
    Matrix x = random(rows, cols, 1);
    const Matrix residual = random(rows, cols, 3), gain = random_matrix(1, cols, 2);
    const DeviceMatrix device_x = activations(x, stride),
                       device_residual = activations(residual, stride),
                       device_gain(backend(), gain), y = results(test_case());
    backend().rms_norm(y.view(), device_x.view(), device_residual.view(), device_gain.floats(),
                       eps);
    for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += residual.values[i];
    x = stored(x, dtype());  // what is kept is what is normalised
    EXPECT_TRUE(close_enough(device_x.values(), x));
    EXPECT_TRUE(close_enough(y.values(), naive::rms_norm(x, gain, eps)));
}

TEST_P(RmsNorm, BackwardAddsTheGradient) {
    const auto [rows, cols, stride] = test_case();
    const Matrix x = random(rows, cols, 1), gain = random_matrix(1, cols, 2),
                 dy = random(rows, cols, 3), dx0 = random(rows, cols, 4);
    const DeviceMatrix device_x = activations(x, stride), device_gain(backend(), gain),
                       device_dy = activations(dy, stride), dx = activations(dx0, stride);
    backend().rms_norm_backward(dx.view(), device_dy.view(), device_x.view(), device_gain.floats(),
                                eps);
    Matrix want = naive::rms_norm_backward(dy, x, gain, eps);
    for (std::size_t i = 0; i < want.values.size(); ++i) want.values[i] += dx0.values[i];
    EXPECT_TRUE(close_enough(dx.values(), want));
}

TEST_P(RmsNorm, GainGradientSumsOverRowsAndParts) {
    const auto [rows, cols, stride] = test_case();
    for (const std::int64_t parts : {1, 2}) {
        if (cols % parts != 0) continue;
        const std::int64_t width = cols / parts;
        const Matrix x = random(rows, cols, 1), dy = random(rows, cols, 3),
                     before = random_matrix(1, width, 4);
        const DeviceMatrix device_x = activations(x, stride), device_dy = activations(dy, stride),
                           dgain(backend(), before);
        backend().rms_norm_dgain({dgain.floats(), static_cast<std::size_t>(width)},
                                 device_dy.view(), device_x.view(), eps);
        Matrix want = before;
        for (std::int64_t i = 0; i < rows * parts; ++i) {
            const std::int64_t first = i % parts * width;
            double squares = 0;
            for (std::int64_t j = first; j < first + width; ++j) {
                squares += x(i / parts, j) * x(i / parts, j);
            }
            const double rms = std::sqrt(squares / static_cast<double>(width) + eps);
            for (std::int64_t j = 0; j < width; ++j) {
                want(0, j) += dy(i / parts, first + j) * x(i / parts, first + j) / rms;
            }
        }
        EXPECT_TRUE(close(dgain.values(), want)) << parts << " parts";
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         on_every_backend({Shape{1, 1}, Shape{7, 64}, Shape{33, 130, 136},
                                           Shape{5, 4096}}),
                         named_by(shape_name));

/// Rows, heads, columns of a head; the operands are columns of a wider matrix.
struct HeadCase {
    std::int64_t rows, heads, head_dim, padding;
};

class HeadRmsNorm : public OnEveryBackend<HeadCase> {};

TEST_P(HeadRmsNorm, NormalizesEachHeadOfARow) {
    const auto [rows, heads, head_dim, padding] = test_case();
    const std::int64_t cols = heads * head_dim;
    const Matrix x = random(rows, cols, 1), gain = random_matrix(1, head_dim, 2);
    const DeviceMatrix device_x = activations(x, cols + padding), device_gain(backend(), gain),
                       y = results({rows, cols, cols + padding});
    backend().head_rms_norm(y.view(), device_x.view(), heads, device_gain.floats(), eps);
    const Matrix want = join_heads(naive::rms_norm(split_heads(x, heads), gain, eps), heads);
    EXPECT_TRUE(close_enough(y.values(), want));
    EXPECT_TRUE(same_bits(device_x.values(), x));
    backend().head_rms_norm(device_x.view(), device_x.view(), heads, device_gain.floats(), eps);
    EXPECT_TRUE(same_bits(device_x.values(), y.values())) << "in place";
}

TEST_P(HeadRmsNorm, BackwardWritesTheGradient) {
    const auto [rows, heads, head_dim, padding] = test_case();
    const std::int64_t cols = heads * head_dim;
    const Matrix x = random(rows, cols, 1), gain = random_matrix(1, head_dim, 2),
                 dy = random(rows, cols, 3);
    const DeviceMatrix device_x = activations(x, cols + padding), device_gain(backend(), gain),
                       device_dy = activations(dy, cols + padding),
                       dx = activations(random(rows, cols, 4), cols + padding);
    const auto backward = [&, heads = heads](const DeviceMatrix& to) {
        backend().head_rms_norm_backward(to.view(), device_dy.view(), device_x.view(), heads,
                                         device_gain.floats(), eps);
    };
    backward(dx);
    const Matrix want = join_heads(
        naive::rms_norm_backward(split_heads(dy, heads), split_heads(x, heads), gain, eps), heads);
    EXPECT_TRUE(close_enough(dx.values(), want));
    backward(device_dy);
    EXPECT_TRUE(same_bits(device_dy.values(), dx.values())) << "in place";
}

INSTANTIATE_TEST_SUITE_P(Shapes, HeadRmsNorm,
                         on_every_backend({HeadCase{1, 1, 2, 0}, HeadCase{7, 4, 32, 0},
                                           HeadCase{33, 3, 10, 5}, HeadCase{18, 2, 128, 64}}),
                         named_by([](const HeadCase& c) {
                             return std::to_string(c.rows) + "x" + std::to_string(c.heads) + "x" +
                                    std::to_string(c.head_dim);
                         }));

}  // namespace
}  // namespace fedit::test
