// tests/tensor/cuda/cross_entropy_test.cpp: loss, best index and gradient of a chunk of logits.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/cross_entropy.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

struct Chunk {
    Matrix logits;
    std::vector<std::int32_t> targets;
    std::vector<float> weights;
};

Chunk random_chunk(std::int64_t rows, std::int64_t vocab) {
    Chunk chunk{.logits = random_matrix(rows, vocab, 1, 5), .targets = {}, .weights = {}};
    for (std::int64_t i = 0; i < rows; ++i) {
        chunk.targets.push_back(static_cast<std::int32_t>((i * 7919 + vocab - 1) % vocab));
        chunk.weights.push_back(i % 5 == 3 ? 0.0F : 1.0F / static_cast<float>(i % 7 + 2));
    }
    return chunk;
}

struct Result {
    Matrix loss, best, gradient;
};

Result naive_result(const Chunk& chunk) {
    const Matrix& x = chunk.logits;
    Result result{Matrix(x.rows, 1), Matrix(x.rows, 1), Matrix(x.rows, x.cols)};
    for (std::int64_t i = 0; i < x.rows; ++i) {
        const auto row = x.values.begin() + i * x.cols;
        const auto largest = std::max_element(row, row + x.cols);
        double total = 0;
        for (std::int64_t j = 0; j < x.cols; ++j) total += std::exp(x(i, j) - *largest);
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t target = chunk.targets[at];
        result.loss(i, 0) = std::log(total) + *largest - x(i, target);
        result.best(i, 0) = static_cast<double>(largest - row);
        for (std::int64_t j = 0; j < x.cols; ++j) {
            const double p = std::exp(x(i, j) - *largest) / total;
            result.gradient(i, j) = chunk.weights[at] * (p - (j == target ? 1 : 0));
        }
    }
    return result;
}

/// Rows, columns, stride, offset; the type that gradients are written in.
class CrossEntropyTwin : public testing::TestWithParam<TwinCase> {};

/// The gradient lies in the memory of `logits`; what the type left over is not looked at.
Matrix gradient_of(TensorView logits, Dtype dtype) {
    const TensorView view = cuda::gradient_view(logits, dtype);
    Matrix m(view.rows, view.cols);
    for (std::int64_t i = 0; i < m.rows; ++i) {
        for (std::int64_t j = 0; j < m.cols; ++j) {
            m(i, j) = dtype == Dtype::fp32 ? view.row(i)[j]
                                           : cuda::to_float(static_cast<const cuda::Bf16*>(
                                                 view.data)[i * view.stride + j]);
        }
    }
    return m;
}

/// Loss, best, gradient, in this order.
Twin twin_of(const Chunk& chunk, const TwinCase& c) {
    return [=](const emulate::Launch& launch) -> std::vector<Matrix> {
        TwinCase placed = c;
        placed.dtype = Dtype::fp32;
        HostMatrix logits(chunk.logits, placed);
        Matrix loss = poisoned(c.rows, 1);
        std::vector<std::int32_t> best(chunk.targets.size(), -7);
        cuda::launch_cross_entropy(launch, loss.values.data(), best.data(), logits.view(),
                                   chunk.targets.data(), chunk.weights.data(), c.dtype);
        Matrix best_matrix(c.rows, 1);
        std::copy(best.begin(), best.end(), best_matrix.values.begin());
        static_cast<void>(logits.values());  // looks at what lies between rows
        return {loss, best_matrix, gradient_of(logits.view(), c.dtype)};
    };
}

TEST_P(CrossEntropyTwin, AgreesWithDoubleLoops) {
    const Chunk chunk = random_chunk(GetParam().rows, GetParam().cols);
    const Result want = naive_result(chunk);
    const auto got = run_twin(twin_of(chunk, GetParam()));
    EXPECT_TRUE(agrees(got[0], want.loss, Dtype::fp32));
    EXPECT_TRUE(same_bits(got[1], want.best));
    EXPECT_TRUE(agrees(got[2], want.gradient, GetParam().dtype));
}

TEST_P(CrossEntropyTwin, LeavesLogitsAloneWithoutWeights) {
    const Chunk chunk = random_chunk(GetParam().rows, GetParam().cols);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        TwinCase placed = GetParam();
        placed.dtype = Dtype::fp32;
        HostMatrix logits(chunk.logits, placed);
        Matrix loss = poisoned(placed.rows, 1);
        cuda::launch_cross_entropy(launch, loss.values.data(), nullptr, logits.view(),
                                   chunk.targets.data(), nullptr, GetParam().dtype);
        return {loss, logits.values()};
    });
    EXPECT_TRUE(agrees(got[0], naive_result(chunk).loss, Dtype::fp32));
    EXPECT_TRUE(same_bits(got[1], chunk.logits));
}

std::vector<TwinCase> chunk_cases() {
    std::vector<TwinCase> cases;
    for (const Dtype dtype : {Dtype::fp32, Dtype::bf16}) {
        cases.push_back({1, 1, 0, 0, dtype});
        cases.push_back({6, 64, 0, 0, dtype});
        cases.push_back({3, 301, 304, 8, dtype});    // the last vector is a part
        cases.push_back({2, 257, 0, 1, dtype});      // an element at a time
        cases.push_back({2, 9003, 9008, 0, dtype});  // several turns of the block
        cases.push_back({1, 1500, 0, 3, dtype});     // the same an element at a time
    }
    return cases;
}
INSTANTIATE_TEST_SUITE_P(Cases, CrossEntropyTwin, testing::ValuesIn(chunk_cases()), twin_name);

/// Loss and best of one row of 300 equal logits, but for those given.
std::vector<Matrix> loss_of(const std::vector<std::pair<std::int64_t, double>>& given) {
    Chunk chunk{.logits = Matrix(1, 300, 2), .targets = {7}, .weights = {1}};
    for (const auto& [j, value] : given) chunk.logits(0, j) = value;
    return run_twin(twin_of(chunk, {1, 300, 304, 0, Dtype::fp32}));
}

TEST(CrossEntropyBest, IsTheLowestOfEqualLogits) {
    EXPECT_EQ(loss_of({})[1](0, 0), 0);
    EXPECT_EQ(loss_of({{299, 3}, {65, 3}, {130, 3}})[1](0, 0), 65);
}

TEST(CrossEntropyRange, LargeLogitsDoNotOverflow) {
    const auto got = loss_of({{12, 700}, {7, -500}});
    EXPECT_NEAR(got[0](0, 0), 1200, 1e-3);
    EXPECT_EQ(got[1](0, 0), 12);
}

TEST(CrossEntropyRange, LogitsOfMinusInfinityHaveNoWeight) {
    std::vector<std::pair<std::int64_t, double>> given;
    for (std::int64_t j = 0; j < 300; ++j) given.emplace_back(j, j < 290 && j != 7 ? -INFINITY : 1);
    const auto got = loss_of(given);
    EXPECT_NEAR(got[0](0, 0), std::log(11.0), 1e-6);
    EXPECT_EQ(got[1](0, 0), 7);
}

TEST(CrossEntropyRange, ANanAnywhereInTheLogitsIsSeen) {
    for (const std::int64_t place : {0, 7, 150, 299}) {
        const auto got = loss_of({{place, NAN}, {20, 900}});
        EXPECT_TRUE(std::isnan(got[0](0, 0))) << place;
        EXPECT_EQ(got[1](0, 0), -1) << place;
    }
}

TEST(CrossEntropyBarriers, AreAllNeeded) {
    EXPECT_TRUE(every_barrier_matters(
        "cross_entropy.cuh", twin_of(random_chunk(2, 1500), {2, 1500, 1504, 0, Dtype::bf16})));
}

}  // namespace
}  // namespace fedit::test
