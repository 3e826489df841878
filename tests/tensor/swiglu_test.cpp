// tests/tensor/swiglu_test.cpp: the gated activation and its backward, also in place.
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

class Swiglu : public testing::TestWithParam<Shape> {
protected:
    std::unique_ptr<Backend> backend_ = make_cpu_backend(2);
};

TEST_P(Swiglu, AgreesWithDoubleLoops) {
    const auto [rows, cols, stride] = GetParam();
    const Matrix gate = random_matrix(rows, cols, 1, 3), up = random_matrix(rows, cols, 2),
                 dy = random_matrix(rows, cols, 3);
    const DeviceMatrix device_gate(*backend_, gate, stride), device_up(*backend_, up, stride),
        device_dy(*backend_, dy, stride), y(*backend_, GetParam());
    backend_->swiglu(y.view(), device_gate.view(), device_up.view());
    EXPECT_TRUE(close(y.values(), naive::swiglu(gate, up)));

    backend_->swiglu_backward(device_gate.view(), device_up.view(), device_dy.view(),
                              device_gate.view(), device_up.view());
    const naive::SwigluGradients want = naive::swiglu_backward(dy, gate, up);
    EXPECT_TRUE(close(device_gate.values(), want.dgate));
    EXPECT_TRUE(close(device_up.values(), want.dup));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Swiglu,
                         testing::Values(Shape{1, 1}, Shape{7, 64}, Shape{33, 130, 136},
                                         Shape{5, 4097}),
                         [](const auto& test) { return shape_name(test.param); });

TEST(SwigluRange, LargeGatesGiveTheirLimits) {
    const auto backend = make_cpu_backend(1);
    Matrix gate(1, 16, 200), up(1, 16, 1);
    for (std::int64_t j = 8; j < 16; ++j) gate(0, j) = -200;
    const DeviceMatrix device_gate(*backend, gate), device_up(*backend, up),
        y(*backend, Shape{1, 16});
    backend->swiglu(y.view(), device_gate.view(), device_up.view());
    const Matrix got = y.values();
    EXPECT_EQ(got(0, 0), 200);
    EXPECT_NEAR(got(0, 15), 0, 1e-30);
}

}  // namespace
}  // namespace fedit::test
