// tests/tensor/cuda/head_norm_test.cpp: the kernels of RMSNorm in each head against double loops.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/head_norm.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

constexpr float eps = 1e-3F;

/// Rows, heads, columns of a head, placement.
struct HeadCase {
    std::int64_t rows, heads, head_dim, padding, offset;
    Dtype dtype;
};

class HeadNormTwin : public testing::TestWithParam<HeadCase> {
protected:
    Matrix random(std::uint32_t client) const {
        const HeadCase& c = GetParam();
        return rounded_to(c.dtype, random_matrix(c.rows, c.heads * c.head_dim, client));
    }
    HostMatrix placed(const Matrix& m) const {
        return HostMatrix(m, GetParam().dtype, m.cols + GetParam().padding, GetParam().offset);
    }

    const Matrix x_ = random(1), dy_ = random(2);
    const Matrix gain_ = random_matrix(1, GetParam().head_dim, 3);
};

TEST_P(HeadNormTwin, NormalizesEachHeadAlsoInPlace) {
    const auto [rows, heads, head_dim, padding, offset, dtype] = GetParam();
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(x_), y = placed(poisoned(x_.rows, x_.cols)), gain(gain_, Dtype::fp32);
        cuda::launch_head_rms_norm(launch, y.view(), x.view(), GetParam().heads, gain.floats(),
                                   eps);
        cuda::launch_head_rms_norm(launch, x.view(), x.view(), GetParam().heads, gain.floats(),
                                   eps);
        return {y.values(), x.values()};
    });
    const Matrix want = join_heads(naive::rms_norm(split_heads(x_, heads), gain_, eps), heads);
    EXPECT_TRUE(agrees(got[0], want, dtype));
    EXPECT_TRUE(same_bits(got[1], got[0])) << "in place";
}

TEST_P(HeadNormTwin, BackwardWritesTheGradientAlsoInPlace) {
    const auto [rows, heads, head_dim, padding, offset, dtype] = GetParam();
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(x_), dy = placed(dy_), dx = placed(poisoned(x_.rows, x_.cols)),
                   gain(gain_, Dtype::fp32);
        for (HostMatrix* to : {&dx, &dy}) {
            cuda::launch_head_rms_norm_backward(launch, to->view(), dy.view(), x.view(),
                                                GetParam().heads, gain.floats(), eps);
        }
        return {dx.values(), dy.values()};
    });
    const Matrix want = join_heads(
        naive::rms_norm_backward(split_heads(dy_, heads), split_heads(x_, heads), gain_, eps),
        heads);
    EXPECT_TRUE(agrees(got[0], want, dtype));
    EXPECT_TRUE(same_bits(got[1], got[0])) << "in place";
}

INSTANTIATE_TEST_SUITE_P(
    Cases, HeadNormTwin,
    testing::Values(HeadCase{1, 1, 2, 0, 0, Dtype::fp32}, HeadCase{3, 5, 64, 8, 8, Dtype::fp32},
                    HeadCase{7, 3, 10, 3, 1, Dtype::fp32}, HeadCase{2, 3, 264, 0, 0, Dtype::fp32},
                    HeadCase{3, 5, 128, 0, 0, Dtype::bf16}, HeadCase{2, 2, 520, 8, 0, Dtype::bf16},
                    HeadCase{3, 2, 33, 5, 3, Dtype::bf16}),
    [](const auto& test) {
        const HeadCase& c = test.param;
        return std::to_string(c.rows) + "x" + std::to_string(c.heads) + "x" +
               std::to_string(c.head_dim) + "_" + std::string(to_string(c.dtype));
    });

}  // namespace
}  // namespace fedit::test
