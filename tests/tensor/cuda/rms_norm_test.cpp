// tests/tensor/cuda/rms_norm_test.cpp: the kernels of RMSNorm against double loops.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/rms_norm.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

constexpr float eps = 1e-3F;

class RmsNormTwin : public testing::TestWithParam<TwinCase> {
protected:
    Matrix random(std::uint32_t client) const {
        return rounded_to(GetParam().dtype,
                          random_matrix(GetParam().rows, GetParam().cols, client));
    }

    const Matrix x_ = random(1), residual_ = random(2), dy_ = random(3), dx0_ = random(4);
    const Matrix gain_ = random_matrix(1, GetParam().cols, 5);
};

TEST_P(RmsNormTwin, AgreesWithDoubleLoops) {
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x(x_, GetParam()), gain(gain_, Dtype::fp32),
            y(poisoned(x_.rows, x_.cols), GetParam());
        cuda::launch_rms_norm(launch, y.view(), x.view(), {}, gain.floats(), eps);
        return {y.values(), x.values()};
    });
    EXPECT_TRUE(agrees(got[0], naive::rms_norm(x_, gain_, eps), GetParam().dtype));
    EXPECT_TRUE(same_bits(got[1], x_));
}

TEST_P(RmsNormTwin, AddsTheResidualFirst) {
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x(x_, GetParam()), residual(residual_, GetParam()), gain(gain_, Dtype::fp32),
            y(poisoned(x_.rows, x_.cols), GetParam());
        cuda::launch_rms_norm(launch, y.view(), x.view(), residual.view(), gain.floats(), eps);
        return {y.values(), x.values()};
    });
    Matrix sum = x_;
    for (std::size_t i = 0; i < sum.values.size(); ++i) {
        sum.values[i] = static_cast<float>(sum.values[i] + residual_.values[i]);
    }
    sum = rounded_to(GetParam().dtype, sum);
    EXPECT_TRUE(same_bits(got[1], sum));
    EXPECT_TRUE(agrees(got[0], naive::rms_norm(sum, gain_, eps), GetParam().dtype));
}

TEST_P(RmsNormTwin, BackwardAddsTheGradient) {
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x(x_, GetParam()), dy(dy_, GetParam()), gain(gain_, Dtype::fp32),
            dx(dx0_, GetParam());
        cuda::launch_rms_norm_backward(launch, dx.view(), dy.view(), x.view(), gain.floats(), eps);
        return {dx.values()};
    });
    Matrix want = naive::rms_norm_backward(dy_, x_, gain_, eps);
    for (std::size_t i = 0; i < want.values.size(); ++i) want.values[i] += dx0_.values[i];
    EXPECT_TRUE(agrees(got[0], want, GetParam().dtype));
}

INSTANTIATE_TEST_SUITE_P(Cases, RmsNormTwin, testing::ValuesIn(twin_cases()), twin_name);

TEST(RmsNormBarriers, AreAllNeeded) {
    const Matrix x = random_matrix(2, 1024, 1), dy = random_matrix(2, 1024, 2),
                 gain = random_matrix(1, 1024, 3);
    EXPECT_TRUE(every_barrier_matters(
        "rows.cuh", [&](const emulate::Launch& launch) -> std::vector<Matrix> {
            HostMatrix device_x(x, Dtype::fp32), device_dy(dy, Dtype::fp32),
                device_gain(gain, Dtype::fp32), dx(Matrix(2, 1024), Dtype::fp32);
            cuda::launch_rms_norm_backward(launch, dx.view(), device_dy.view(), device_x.view(),
                                           device_gain.floats(), eps);
            return {dx.values()};
        }));
}

}  // namespace
}  // namespace fedit::test
