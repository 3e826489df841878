// tests/tensor/cuda/picked_rows_test.cpp: embedding and its backward, gather and scatter.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/picked_rows.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

constexpr std::int64_t table_rows = 11;

class PickedRowsTwin : public testing::TestWithParam<TwinCase> {
protected:
    /// A case's placement with an element type.
    static TwinCase as(Dtype dtype) {
        TwinCase c = GetParam();
        c.dtype = dtype;
        return c;
    }
    Matrix table() const {
        return rounded_to(GetParam().dtype, random_matrix(table_rows, GetParam().cols, 1));
    }
};

TEST_P(PickedRowsTwin, EmbeddingAndGatherCopyRows) {
    const Matrix table = this->table();
    std::vector<std::int32_t> tokens;
    for (std::int64_t t = 0; t < GetParam().rows; ++t) {
        tokens.push_back(static_cast<std::int32_t>((t * 7 + 10) % table_rows));
    }
    const std::vector<std::int64_t> numbers(tokens.begin(), tokens.end());
    Matrix want(GetParam().rows, GetParam().cols);
    for (std::int64_t t = 0; t < want.rows; ++t) {
        for (std::int64_t j = 0; j < want.cols; ++j) {
            want(t, j) = table(tokens[static_cast<std::size_t>(t)], j);
        }
    }
    for (const Dtype dtype : {Dtype::fp32, Dtype::bf16}) {
        const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
            HostMatrix x(table, GetParam()), y(poisoned(want.rows, want.cols), as(dtype)),
                z(poisoned(want.rows, want.cols), as(dtype));
            cuda::launch_copy_rows(launch, y.view(), x.view(), tokens.data());
            cuda::launch_copy_rows(launch, z.view(), x.view(), numbers.data());
            return {y.values(), z.values()};
        });
        EXPECT_TRUE(same_bits(got[0], rounded_to(dtype, want)));
        EXPECT_TRUE(same_bits(got[1], rounded_to(dtype, want)));
    }
}

TEST_P(PickedRowsTwin, ScatterAddsToDistinctRows) {
    const Matrix before = table();
    const Matrix x0 =
        rounded_to(GetParam().dtype, random_matrix(GetParam().rows, GetParam().cols, 2));
    std::vector<std::int64_t> numbers;
    for (std::int64_t t = 0; t < x0.rows; ++t) numbers.push_back((t * 4 + 10) % table_rows);
    Matrix want = before;
    for (std::int64_t t = 0; t < x0.rows; ++t) {
        for (std::int64_t j = 0; j < x0.cols; ++j) {
            double& sum = want(numbers[static_cast<std::size_t>(t)], j);
            sum = static_cast<float>(sum + x0(t, j));
        }
    }
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x(x0, GetParam()), y(before, GetParam());
        cuda::launch_scatter_add_rows(launch, y.view(), x.view(), numbers.data());
        return {y.values()};
    });
    EXPECT_TRUE(same_bits(got[0], rounded_to(GetParam().dtype, want)));
}

TEST_P(PickedRowsTwin, EmbeddingBackwardHasTheBitsOfALoopOverRows) {
    const std::int64_t rows = 40;
    const Matrix before = random_matrix(table_rows, GetParam().cols, 1);
    const Matrix slopes = rounded_to(GetParam().dtype, random_matrix(rows, GetParam().cols, 2));
    std::vector<std::int32_t> tokens;
    for (int t = 0; t < rows; ++t) tokens.push_back(t * t % 7);
    Matrix want = before;
    for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t j = 0; j < want.cols; ++j) {
            double& sum = want(tokens[static_cast<std::size_t>(t)], j);
            sum = static_cast<float>(sum + slopes(t, j));
        }
    }
    const cuda::TokenGroups groups = cuda::group_tokens(tokens);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix dy(slopes, GetParam()), dtable(before, as(Dtype::fp32));
        cuda::launch_embedding_backward(launch, dtable.view(), dy.view(),
                                        {.count = static_cast<std::int64_t>(groups.token.size()),
                                         .token = groups.token.data(),
                                         .begin = groups.begin.data(),
                                         .order = groups.order.data()});
        return {dtable.values()};
    });
    EXPECT_TRUE(same_bits(got[0], want));
}

INSTANTIATE_TEST_SUITE_P(Cases, PickedRowsTwin, testing::ValuesIn(twin_cases()), twin_name);

TEST(TokenGroups, HoldEachTokensRowsInOrder) {
    const std::vector<std::int32_t> tokens{5, 2, 5, 9, 2, 5};
    const cuda::TokenGroups groups = cuda::group_tokens(tokens);
    EXPECT_EQ(groups.token, (std::vector<std::int32_t>{2, 5, 9}));
    EXPECT_EQ(groups.begin, (std::vector<std::int64_t>{0, 2, 5, 6}));
    EXPECT_EQ(groups.order, (std::vector<std::int64_t>{1, 4, 0, 2, 5, 3}));
    const cuda::TokenGroups none = cuda::group_tokens({});
    EXPECT_TRUE(none.token.empty());
    EXPECT_EQ(none.begin, std::vector<std::int64_t>{0});
}

}  // namespace
}  // namespace fedit::test
