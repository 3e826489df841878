// tests/tensor/swiglu_test.cpp: the gated activation and its backward, also in place.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

class Swiglu : public OnEveryBackend<Shape> {};

TEST_P(Swiglu, AgreesWithDoubleLoops) {
    const auto [rows, cols, stride] = test_case();
    const Matrix gate = random(rows, cols, 1, 3), up = random(rows, cols, 2),
                 dy = random(rows, cols, 3);
    const DeviceMatrix device_gate = activations(gate, stride), device_up = activations(up, stride),
                       device_dy = activations(dy, stride), y = results(test_case());
    backend().swiglu(y.view(), device_gate.view(), device_up.view());
    EXPECT_TRUE(close_enough(y.values(), naive::swiglu(gate, up)));

    backend().swiglu_backward(device_gate.view(), device_up.view(), device_dy.view(),
                              device_gate.view(), device_up.view());
    const naive::SwigluGradients want = naive::swiglu_backward(dy, gate, up);
    EXPECT_TRUE(close_enough(device_gate.values(), want.dgate));
    EXPECT_TRUE(close_enough(device_up.values(), want.dup));
}

TEST_P(Swiglu, LargeGatesGiveTheirLimits) {
    Matrix gate(1, 16, 200), up(1, 16, 1);
    for (std::int64_t j = 8; j < 16; ++j) gate(0, j) = -200;
    const DeviceMatrix device_gate = activations(gate), device_up = activations(up),
                       y = results({1, 16});
    backend().swiglu(y.view(), device_gate.view(), device_up.view());
    const Matrix got = y.values();
    EXPECT_EQ(got(0, 0), 200);
    EXPECT_NEAR(got(0, 15), 0, 1e-30);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Swiglu,
                         on_every_backend({Shape{1, 1}, Shape{7, 64}, Shape{33, 130, 136},
                                           Shape{5, 4097}}),
                         named_by(shape_name));

}  // namespace
}  // namespace fedit::test
