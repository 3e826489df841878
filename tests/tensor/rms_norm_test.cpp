// tests/tensor/rms_norm_test.cpp: RMSNorm, its residual addition, and its backward.
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

constexpr float eps = 1e-3F;

class RmsNorm : public testing::TestWithParam<Shape> {
protected:
    std::unique_ptr<Backend> backend_ = make_cpu_backend(2);
};

TEST_P(RmsNorm, AgreesWithDoubleLoops) {
    const auto [rows, cols, stride] = GetParam();
    const Matrix x = random_matrix(rows, cols, 1), gain = random_matrix(1, cols, 2);
    const DeviceMatrix device_x(*backend_, x, stride), device_gain(*backend_, gain),
        y(*backend_, GetParam());
    backend_->rms_norm(y.view(), device_x.view(), {}, device_gain.floats(), eps);
    EXPECT_TRUE(close(y.values(), naive::rms_norm(x, gain, eps)));
    EXPECT_TRUE(same_bits(device_x.values(), x));
}

TEST_P(RmsNorm, AddsTheResidualFirst) {
    const auto [rows, cols, stride] = GetParam();
    Matrix x = random_matrix(rows, cols, 1);
    const Matrix residual = random_matrix(rows, cols, 3), gain = random_matrix(1, cols, 2);
    const DeviceMatrix device_x(*backend_, x, stride), device_residual(*backend_, residual, stride),
        device_gain(*backend_, gain), y(*backend_, GetParam());
    backend_->rms_norm(y.view(), device_x.view(), device_residual.view(), device_gain.floats(),
                       eps);
    for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += residual.values[i];
    EXPECT_TRUE(close(device_x.values(), x));
    EXPECT_TRUE(close(y.values(), naive::rms_norm(x, gain, eps)));
}

TEST_P(RmsNorm, BackwardAddsTheGradient) {
    const auto [rows, cols, stride] = GetParam();
    const Matrix x = random_matrix(rows, cols, 1), gain = random_matrix(1, cols, 2),
                 dy = random_matrix(rows, cols, 3), dx0 = random_matrix(rows, cols, 4);
    const DeviceMatrix device_x(*backend_, x, stride), device_gain(*backend_, gain),
        device_dy(*backend_, dy, stride), dx(*backend_, dx0, stride);
    backend_->rms_norm_backward(dx.view(), device_dy.view(), device_x.view(), device_gain.floats(),
                                eps);
    Matrix want = naive::rms_norm_backward(dy, x, gain, eps);
    for (std::size_t i = 0; i < want.values.size(); ++i) want.values[i] += dx0.values[i];
    EXPECT_TRUE(close(dx.values(), want));
}

TEST_P(RmsNorm, GainGradientSumsOverRowsAndParts) {
    const auto [rows, cols, stride] = GetParam();
    for (const std::int64_t parts : {1, 2}) {
        if (cols % parts != 0) continue;
        const std::int64_t width = cols / parts;
        const Matrix x = random_matrix(rows, cols, 1), dy = random_matrix(rows, cols, 3),
                     before = random_matrix(1, width, 4);
        const DeviceMatrix device_x(*backend_, x, stride), device_dy(*backend_, dy, stride),
            dgain(*backend_, before);
        backend_->rms_norm_dgain({dgain.floats(), static_cast<std::size_t>(width)},
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
                         testing::Values(Shape{1, 1}, Shape{7, 64}, Shape{33, 130, 136},
                                         Shape{5, 4096}),
                         [](const auto& test) { return shape_name(test.param); });

/// Rows, heads, columns of a head; the operands are columns of a wider matrix.
struct HeadCase {
    std::int64_t rows, heads, head_dim, padding;
};

class HeadRmsNorm : public testing::TestWithParam<HeadCase> {
protected:
    std::unique_ptr<Backend> backend_ = make_cpu_backend(2);
};

TEST_P(HeadRmsNorm, NormalizesEachHeadOfARow) {
    const auto [rows, heads, head_dim, padding] = GetParam();
    const std::int64_t cols = heads * head_dim;
    const Matrix x = random_matrix(rows, cols, 1), gain = random_matrix(1, head_dim, 2);
    const DeviceMatrix device_x(*backend_, x, cols + padding), device_gain(*backend_, gain),
        y(*backend_, Shape{rows, cols, cols + padding});
    backend_->head_rms_norm(y.view(), device_x.view(), heads, device_gain.floats(), eps);
    const Matrix want = join_heads(naive::rms_norm(split_heads(x, heads), gain, eps), heads);
    EXPECT_TRUE(close(y.values(), want));
    EXPECT_TRUE(same_bits(device_x.values(), x));
    backend_->head_rms_norm(device_x.view(), device_x.view(), heads, device_gain.floats(), eps);
    EXPECT_TRUE(same_bits(device_x.values(), y.values())) << "in place";
}

TEST_P(HeadRmsNorm, BackwardWritesTheGradient) {
    const auto [rows, heads, head_dim, padding] = GetParam();
    const std::int64_t cols = heads * head_dim;
    const Matrix x = random_matrix(rows, cols, 1), gain = random_matrix(1, head_dim, 2),
                 dy = random_matrix(rows, cols, 3);
    const DeviceMatrix device_x(*backend_, x, cols + padding), device_gain(*backend_, gain),
        device_dy(*backend_, dy, cols + padding),
        dx(*backend_, random_matrix(rows, cols, 4), cols + padding);
    const auto backward = [&](const DeviceMatrix& to) {
        backend_->head_rms_norm_backward(to.view(), device_dy.view(), device_x.view(), heads,
                                         device_gain.floats(), eps);
    };
    backward(dx);
    const Matrix want = join_heads(
        naive::rms_norm_backward(split_heads(dy, heads), split_heads(x, heads), gain, eps), heads);
    EXPECT_TRUE(close(dx.values(), want));
    backward(device_dy);
    EXPECT_TRUE(same_bits(device_dy.values(), dx.values())) << "in place";
}

INSTANTIATE_TEST_SUITE_P(Shapes, HeadRmsNorm,
                         testing::Values(HeadCase{1, 1, 2, 0}, HeadCase{7, 4, 32, 0},
                                         HeadCase{33, 3, 10, 5}, HeadCase{18, 2, 128, 64}),
                         [](const auto& test) {
                             const HeadCase& c = test.param;
                             return std::to_string(c.rows) + "x" + std::to_string(c.heads) + "x" +
                                    std::to_string(c.head_dim);
                         });

}  // namespace
}  // namespace fedit::test
