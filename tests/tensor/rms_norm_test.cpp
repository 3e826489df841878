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

INSTANTIATE_TEST_SUITE_P(Shapes, RmsNorm,
                         testing::Values(Shape{1, 1}, Shape{7, 64}, Shape{33, 130, 136},
                                         Shape{5, 4096}),
                         [](const auto& test) { return shape_name(test.param); });

}  // namespace
}  // namespace fedit::test
