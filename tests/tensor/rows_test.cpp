// tests/tensor/rows_test.cpp: embedding, gather and scatter of rows.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

/// Columns, and those that lie between rows.
struct Case {
    std::int64_t cols, padding;
};

class Rows : public OnEveryBackend<Case> {};

TEST_P(Rows, EmbeddingCopiesTheTokensRows) {
    const auto [cols, padding] = test_case();
    const Matrix table = random_matrix(50, cols, 1);
    std::vector<std::int32_t> tokens;
    for (int t = 0; t < 70; ++t) tokens.push_back(t * 13 % 50);
    const DeviceMatrix device_table(backend(), table, cols + padding),
        y = results({70, cols, cols + padding});
    backend().embedding(y.view(), device_table.view(), tokens);
    const Matrix got = y.values(), want = stored(table, dtype());
    for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t j = 0; j < cols; ++j) {
            ASSERT_EQ(got(t, j), want(tokens[static_cast<std::size_t>(t)], j));
        }
    }
}

TEST_P(Rows, EmbeddingBackwardAddsToTheTokensRowsHoweverOftenTheyCome) {
    const auto [cols, padding] = test_case();
    const Matrix dy = random(70, cols, 1), before = random_matrix(9, cols, 2);
    std::vector<std::int32_t> tokens;
    for (int t = 0; t < 70; ++t) tokens.push_back(t * t % 7);
    const DeviceMatrix device_dy = activations(dy, cols + padding),
                       dtable(backend(), before, cols + 2 * padding);
    backend().embedding_backward(dtable.view(), device_dy.view(), tokens);
    Matrix want = before;
    for (std::int64_t t = 0; t < 70; ++t) {
        for (std::int64_t j = 0; j < cols; ++j) {
            want(tokens[static_cast<std::size_t>(t)], j) += dy(t, j);
        }
    }
    EXPECT_TRUE(close(dtable.values(), want));
}

TEST_P(Rows, GatherThenScatterAddIsItsTranspose) {
    const auto [cols, padding] = test_case();
    const Matrix x = random(90, cols, 1), y0 = random(90, cols, 2);
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < 40; ++i) rows.push_back(89 - 2 * i);
    const DeviceMatrix device_x = activations(x, cols + padding), picked = results({40, cols});
    backend().gather_rows(picked.view(), device_x.view(), rows);
    const Matrix got = picked.values();
    for (std::int64_t i = 0; i < 40; ++i) {
        for (std::int64_t j = 0; j < cols; ++j) {
            ASSERT_EQ(got(i, j), x(rows[static_cast<std::size_t>(i)], j));
        }
    }
    const DeviceMatrix y = activations(y0, cols + 2 * padding);
    backend().scatter_add_rows(y.view(), picked.view(), rows);
    Matrix want = y0;
    for (const std::int64_t row : rows) {
        for (std::int64_t j = 0; j < cols; ++j) want(row, j) += x(row, j);
    }
    EXPECT_TRUE(close_enough(y.values(), want));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rows,
                         on_every_backend({Case{33, 7}, Case{133, 3}, Case{64, 0}, Case{1, 0}}),
                         named_by([](const Case& c) {
                             return std::to_string(c.cols) + "p" + std::to_string(c.padding);
                         }));

}  // namespace
}  // namespace fedit::test
