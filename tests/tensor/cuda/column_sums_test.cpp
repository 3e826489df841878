// tests/tensor/cuda/column_sums_test.cpp: gradients of biases and of norms' gains.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/column_sums.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

constexpr float eps = 1e-3F;

/// Scratch of exactly `count` floats, full of NaN; what lies behind them is watched.
HostMatrix scratch_of(std::int64_t count) {
    return HostMatrix(poisoned(1, count), Dtype::fp32);
}

class ColumnSumsTwin : public testing::TestWithParam<TwinCase> {
protected:
    Matrix random(std::uint32_t client) const {
        return rounded_to(GetParam().dtype,
                          random_matrix(GetParam().rows, GetParam().cols, client));
    }
};

TEST_P(ColumnSumsTwin, AddsTheRows) {
    const Matrix dy = random(1), before = random_matrix(1, dy.cols, 2);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix slopes(dy, GetParam()), sum(before, Dtype::fp32),
            scratch = scratch_of(cuda::column_sums_scratch(dy.rows, dy.cols));
        cuda::launch_column_sums(launch, sum.floats(), slopes.view(), scratch.floats());
        static_cast<void>(scratch.values());
        return {sum.values()};
    });
    Matrix want = before;
    for (std::int64_t i = 0; i < dy.rows; ++i) {
        for (std::int64_t j = 0; j < dy.cols; ++j) want(0, j) += dy(i, j);
    }
    EXPECT_TRUE(agrees(got[0], want, Dtype::fp32));
}

TEST_P(ColumnSumsTwin, GainGradientSumsOverRowsAndParts) {
    for (const std::int64_t parts : {1, 2}) {
        if (GetParam().cols % parts != 0) continue;
        const std::int64_t width = GetParam().cols / parts;
        const Matrix dy = random(1), x = random(2), before = random_matrix(1, width, 3);
        const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
            HostMatrix slopes(dy, GetParam()), values(x, GetParam()), dgain(before, Dtype::fp32),
                scratch = scratch_of(cuda::rms_norm_dgain_scratch(x.rows, x.cols, width));
            cuda::launch_rms_norm_dgain(launch, dgain.floats(), width, slopes.view(), values.view(),
                                        eps, scratch.floats());
            static_cast<void>(scratch.values());
            return {dgain.values()};
        });
        const Matrix dy_parts = split_heads(dy, parts), x_parts = split_heads(x, parts);
        const Matrix normalized = naive::rms_norm(x_parts, Matrix(1, width, 1), eps);
        Matrix want = before;
        for (std::int64_t i = 0; i < dy_parts.rows; ++i) {
            for (std::int64_t j = 0; j < width; ++j) {
                want(0, j) += dy_parts(i, j) * normalized(i, j);
            }
        }
        EXPECT_TRUE(agrees(got[0], want, Dtype::fp32)) << parts << " parts";
    }
}

std::vector<TwinCase> sum_cases() {
    std::vector<TwinCase> cases = twin_cases();
    for (const Dtype dtype : {Dtype::fp32, Dtype::bf16}) {
        cases.push_back({64, 16, 0, 0, dtype});    // one whole group of rows
        cases.push_back({197, 24, 32, 0, dtype});  // several
        cases.push_back({65, 5, 7, 1, dtype});
    }
    return cases;
}
INSTANTIATE_TEST_SUITE_P(Cases, ColumnSumsTwin, testing::ValuesIn(sum_cases()), twin_name);

TEST(ColumnSums, HaveAtMostAThousandPartialSums) {
    EXPECT_EQ(cuda::column_sums_scratch(0, 5), 0);
    EXPECT_EQ(cuda::column_sums_scratch(64, 5), 5);
    EXPECT_EQ(cuda::column_sums_scratch(65, 5), 10);
    EXPECT_EQ(cuda::column_sums_scratch(1 << 16, 1), 1024);
    EXPECT_EQ(cuda::column_sums_scratch((1 << 16) + 1, 1), 1009);
    EXPECT_LE(cuda::column_sums_scratch(std::int64_t{1} << 40, 1), 1024);
}

}  // namespace
}  // namespace fedit::test
