// tests/tensor/cuda/optimizer_test.cpp: work on flat vectors has the bits of the CPU back end.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/optimizer.cuh"
#include "tensor/cuda/squared_norm.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

/// Number of elements, and of those between a 16-byte boundary and the first.
class FlatTwin : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {
protected:
    Matrix random(std::uint32_t client) const { return random_matrix(1, GetParam().first, client); }
    HostMatrix placed(const Matrix& m) const {
        return HostMatrix(m, Dtype::fp32, 0, GetParam().second);
    }
};

TEST_P(FlatTwin, AdamWHasTheBitsOfTheCpu) {
    const auto n = GetParam().first;
    const Matrix x0 = random(1);
    Backend::AdamW settings{
        .lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .step = 0};
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(x0), m = placed(Matrix(1, n)), v = placed(Matrix(1, n));
        for (settings.step = 1; settings.step <= 3; ++settings.step) {
            HostMatrix g = placed(random(static_cast<std::uint32_t>(10 + settings.step)));
            cuda::launch_adamw(launch, x.floats(), g.floats(), m.floats(), v.floats(), n,
                               adamw_step(settings));
        }
        return {x.values(), m.values(), v.values()};
    });
    const auto backend = make_cpu_backend(1);
    std::vector<float> x = to_floats(x0), m(x.size()), v(x.size());
    for (settings.step = 1; settings.step <= 3; ++settings.step) {
        const auto g = to_floats(random(static_cast<std::uint32_t>(10 + settings.step)));
        backend->adamw(x, g, m, v, settings);
    }
    EXPECT_EQ(to_floats(got[0]), x);
    EXPECT_EQ(to_floats(got[1]), m);
    EXPECT_EQ(to_floats(got[2]), v);
}

TEST_P(FlatTwin, SgdHasTheBitsOfTheCpu) {
    const Matrix x0 = random(1), slopes = random(2);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(x0), g = placed(slopes);
        cuda::launch_sgd(launch, x.floats(), g.floats(), GetParam().first, 0.1F, 0.02F);
        return {x.values()};
    });
    std::vector<float> x = to_floats(x0);
    make_cpu_backend(1)->sgd(x, to_floats(slopes), 0.1, 0.02);
    EXPECT_EQ(to_floats(got[0]), x);
}

TEST_P(FlatTwin, ScalesAndFills) {
    const Matrix x0 = random(1);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(x0), filled = placed(poisoned(1, x0.cols));
        cuda::launch_scale(launch, x.floats(), x0.cols, -0.3F);
        cuda::launch_fill(launch, filled.floats(), x0.cols, 2.5F);
        return {x.values(), filled.values()};
    });
    std::vector<float> x = to_floats(x0);
    for (float& value : x) value *= -0.3F;
    EXPECT_EQ(to_floats(got[0]), x);
    EXPECT_TRUE(same_bits(got[1], Matrix(1, x0.cols, 2.5)));
}

TEST_P(FlatTwin, SquaredNormAndDistanceHaveTheBitsOfTheCpu) {
    const Matrix values = random(1), origins = random(2);
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        HostMatrix x = placed(values), x0 = placed(origins);
        std::vector<double> scratch(
            static_cast<std::size_t>(cuda::squared_norm_scratch(values.cols)), NAN);
        Matrix norm = poisoned(1, 1), distance = poisoned(1, 1);
        cuda::launch_squared_norm(launch, norm.values.data(), x.floats(), nullptr, values.cols,
                                  scratch.data());
        cuda::launch_squared_norm(launch, distance.values.data(), x.floats(), x0.floats(),
                                  values.cols, scratch.data());
        return {norm, distance};
    });
    const auto cpu = make_cpu_backend(1);
    EXPECT_EQ(got[0](0, 0), cpu->squared_norm(to_floats(values)));
    EXPECT_EQ(got[1](0, 0), cpu->squared_distance(to_floats(values), to_floats(origins)));
}

INSTANTIATE_TEST_SUITE_P(Sizes, FlatTwin,
                         testing::Values(std::pair{0, 0}, std::pair{1, 0}, std::pair{4, 4},
                                         std::pair{4095, 0}, std::pair{4097, 1}, std::pair{8192, 0},
                                         std::pair{70003, 2}),
                         [](const auto& test) {
                             return std::to_string(test.param.first) + "at" +
                                    std::to_string(test.param.second);
                         });

/// More blocks than one tile of the last kernel holds.
TEST(SquaredNorm, AddsManyBlocksInOrder) {
    Matrix partial = random_matrix(1, 2500, 1);
    for (double& value : partial.values) value /= 3;
    const Twin twin = [&](const emulate::Launch& launch) -> std::vector<Matrix> {
        Matrix sum = poisoned(1, 1);
        launch(cuda::Grid{.x = 1, .threads = 256}, cuda::sum_in_order_kernel, sum.values.data(),
               partial.values.data(), std::int64_t{2500});
        return {sum};
    };
    double want = 0;
    for (const double value : partial.values) want += value;
    EXPECT_EQ(run_twin(twin)[0](0, 0), want);
    EXPECT_TRUE(every_barrier_matters("squared_norm.cuh", twin));
}

}  // namespace
}  // namespace fedit::test
