// tests/tensor/cuda/elementwise_test.cpp: SwiGLU, RoPE, sums and conversions against double loops.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/elementwise.cuh"
#include "tensor/rope_table.h"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

class ElementwiseTwin : public testing::TestWithParam<TwinCase> {
protected:
    Matrix random(std::uint32_t client, double scale = 1) const {
        return rounded_to(GetParam().dtype,
                          random_matrix(GetParam().rows, GetParam().cols, client, scale));
    }
    Matrix poison() const { return poisoned(GetParam().rows, GetParam().cols); }
};

TEST_P(ElementwiseTwin, SwigluAgreesWithDoubleLoops) {
    const Matrix gate = random(1, 3), up = random(2);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix g(gate, GetParam()), u(up, GetParam()), y(poison(), GetParam());
        cuda::launch_swiglu(launch, y.view(), g.view(), u.view());
        return {y.values(), g.values(), u.values()};
    });
    EXPECT_TRUE(agrees(got[0], naive::swiglu(gate, up), GetParam().dtype));
    EXPECT_TRUE(same_bits(got[1], gate));
    EXPECT_TRUE(same_bits(got[2], up));
}

TEST_P(ElementwiseTwin, SwigluBackwardAgreesWithDoubleLoopsAlsoInPlace) {
    const Matrix gate = random(1, 3), up = random(2), dy = random(3);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix g(gate, GetParam()), u(up, GetParam()), slope(dy, GetParam()),
            dgate(poison(), GetParam()), dup(poison(), GetParam());
        cuda::launch_swiglu_backward(launch, dgate.view(), dup.view(), slope.view(), g.view(),
                                     u.view());
        cuda::launch_swiglu_backward(launch, g.view(), u.view(), slope.view(), g.view(), u.view());
        return {dgate.values(), dup.values(), g.values(), u.values()};
    });
    const naive::SwigluGradients want = naive::swiglu_backward(dy, gate, up);
    EXPECT_TRUE(agrees(got[0], want.dgate, GetParam().dtype));
    EXPECT_TRUE(agrees(got[1], want.dup, GetParam().dtype));
    EXPECT_TRUE(same_bits(got[2], got[0])) << "in place";
    EXPECT_TRUE(same_bits(got[3], got[1])) << "in place";
}

TEST_P(ElementwiseTwin, AddsAndConvertsFromEitherType) {
    for (const Dtype other : {Dtype::fp32, Dtype::bf16}) {
        TwinCase from = GetParam();
        from.dtype = other;
        const Matrix y0 = random(1);
        const Matrix x0 = rounded_to(other, random_matrix(y0.rows, y0.cols, 2));
        const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
            HostMatrix y(y0, GetParam()), x(x0, from), copy(poison(), GetParam());
            cuda::launch_add(launch, y.view(), x.view());
            cuda::launch_convert(launch, copy.view(), x.view());
            return {y.values(), copy.values()};
        });
        Matrix sum = y0;
        for (std::size_t i = 0; i < sum.values.size(); ++i) {
            sum.values[i] = static_cast<float>(sum.values[i] + x0.values[i]);
        }
        EXPECT_TRUE(same_bits(got[0], rounded_to(GetParam().dtype, sum)));
        EXPECT_TRUE(same_bits(got[1], rounded_to(GetParam().dtype, x0)));
    }
}

INSTANTIATE_TEST_SUITE_P(Cases, ElementwiseTwin, testing::ValuesIn(twin_cases()), twin_name);

TEST(SwigluTwin, LargeGatesGiveTheirLimits) {
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        Matrix gates(1, 8, 200);
        for (std::int64_t j = 4; j < 8; ++j) gates(0, j) = -200;
        HostMatrix gate(gates, Dtype::fp32), up(Matrix(1, 8, 1), Dtype::fp32),
            y(poisoned(1, 8), Dtype::fp32);
        cuda::launch_swiglu(launch, y.view(), gate.view(), up.view());
        return {y.values()};
    });
    for (std::int64_t j = 0; j < 8; ++j) EXPECT_EQ(got[0](0, j), j < 4 ? 200 : 0) << j;
}

/// Rows, heads, columns of a head, placement.
struct RopeCase {
    std::int64_t rows, heads, head_dim, padding, offset;
    Dtype dtype;
};

class RopeTwin : public testing::TestWithParam<RopeCase> {};

TEST_P(RopeTwin, AgreesWithDoubleLoopsAndTurnsBack) {
    const RopeCase& c = GetParam();
    const std::int64_t cols = c.heads * c.head_dim;
    const std::vector<float> inv_freq = rotary_frequencies(c.head_dim);
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < c.rows; ++t) {
        positions.push_back(static_cast<std::int32_t>(t * 37 % 101));
    }
    constexpr float attention_scale = 1.25F;
    RopeTable table;
    table.cover(100, inv_freq, attention_scale);
    const Matrix x0 = rounded_to(c.dtype, random_matrix(c.rows, cols, 1));
    for (const bool inverse : {false, true}) {
        const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
            HostMatrix x(x0, c.dtype, cols + c.padding, c.offset);
            cuda::launch_rope(launch, x.view(), c.heads, {positions.data(), table.cosines(0)},
                              inverse);
            return {x.values()};
        });
        EXPECT_TRUE(
            agrees(got[0],
                   naive::rope(x0, c.heads, positions, inv_freq, attention_scale, inverse ? -1 : 1),
                   c.dtype));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, RopeTwin,
    testing::Values(RopeCase{1, 1, 2, 0, 0, Dtype::fp32}, RopeCase{5, 3, 64, 8, 8, Dtype::fp32},
                    RopeCase{7, 5, 10, 3, 1, Dtype::fp32}, RopeCase{3, 40, 128, 0, 0, Dtype::bf16},
                    RopeCase{4, 3, 24, 0, 0, Dtype::bf16}, RopeCase{3, 2, 32, 5, 3, Dtype::bf16}),
    [](const auto& test) {
        const RopeCase& c = test.param;
        return std::to_string(c.rows) + "x" + std::to_string(c.heads) + "x" +
               std::to_string(c.head_dim) + "_" + std::string(to_string(c.dtype));
    });

}  // namespace
}  // namespace fedit::test
