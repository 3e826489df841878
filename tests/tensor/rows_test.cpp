// tests/tensor/rows_test.cpp: embedding, gather and scatter of rows.
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

TEST(Rows, EmbeddingCopiesTheTokensRows) {
    const auto backend = make_cpu_backend(2);
    const Matrix table = random_matrix(50, 33, 1);
    std::vector<std::int32_t> tokens;
    for (int t = 0; t < 70; ++t) tokens.push_back(t * 13 % 50);
    const DeviceMatrix device_table(*backend, table), y(*backend, Shape{70, 33, 40});
    backend->embedding(y.view(), device_table.view(), tokens);
    const Matrix got = y.values();
    for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t j = 0; j < 33; ++j) {
            ASSERT_EQ(got(t, j), table(tokens[static_cast<std::size_t>(t)], j));
        }
    }
}

TEST(Rows, EmbeddingBackwardAddsToTheTokensRowsHoweverOftenTheyCome) {
    const auto backend = make_cpu_backend(2);
    const Matrix dy = random_matrix(70, 133, 1), before = random_matrix(9, 133, 2);
    std::vector<std::int32_t> tokens;
    for (int t = 0; t < 70; ++t) tokens.push_back(t * t % 7);
    const DeviceMatrix device_dy(*backend, dy, 140), dtable(*backend, before, 136);
    backend->embedding_backward(dtable.view(), device_dy.view(), tokens);
    Matrix want = before;
    for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t j = 0; j < 133; ++j) {
            want(tokens[static_cast<std::size_t>(t)], j) += dy(t, j);
        }
    }
    EXPECT_TRUE(close(dtable.values(), want));
}

TEST(Rows, GatherThenScatterAddIsItsTranspose) {
    const auto backend = make_cpu_backend(2);
    const Matrix x = random_matrix(90, 17, 1), y0 = random_matrix(90, 17, 2);
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < 40; ++i) rows.push_back(89 - 2 * i);
    const DeviceMatrix device_x(*backend, x, 20), picked(*backend, Shape{40, 17});
    backend->gather_rows(picked.view(), device_x.view(), rows);
    const Matrix got = picked.values();
    for (std::int64_t i = 0; i < 40; ++i) {
        ASSERT_EQ(got(i, 3), x(rows[static_cast<std::size_t>(i)], 3));
    }
    const DeviceMatrix y(*backend, y0, 18);
    backend->scatter_add_rows(y.view(), picked.view(), rows);
    Matrix want = y0;
    for (const std::int64_t row : rows) {
        for (std::int64_t j = 0; j < 17; ++j) want(row, j) += x(row, j);
    }
    EXPECT_TRUE(close(y.values(), want));
}

}  // namespace
}  // namespace fedit::test
