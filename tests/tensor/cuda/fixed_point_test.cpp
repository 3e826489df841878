// tests/tensor/cuda/fixed_point_test.cpp: the order-free sum of updates and its screen, exactly.
#include "tests/tensor/cuda/emulate.h"

#include "tensor/cuda/fixed_point.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

/// A word as two numbers that a double holds, so that a Matrix can.
Matrix split_words(const std::vector<std::uint64_t>& words) {
    Matrix m(2, static_cast<std::int64_t>(words.size()));
    for (std::size_t i = 0; i < words.size(); ++i) {
        m.values[i] = static_cast<double>(words[i] >> 32);
        m.values[words.size() + i] = static_cast<double>(words[i] & 0xffffffffU);
    }
    return m;
}

/// sum + llrint((x - x0) weight 2^52), as kernels make it; words[shift] is the first of sum.
std::vector<Matrix> accumulated(const std::vector<float>& x, const std::vector<float>& x0,
                                double weight, const std::vector<std::uint64_t>& before,
                                std::size_t shift) {
    return run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        // std::vector's memory begins at a multiple of 16.
        std::vector<float> values(shift), origin(shift);
        std::vector<std::uint64_t> sum(shift, 77);
        values.insert(values.end(), x.begin(), x.end());
        origin.insert(origin.end(), x0.begin(), x0.end());
        sum.insert(sum.end(), before.begin(), before.end());
        sum.push_back(99);
        cuda::launch_accumulate_fixed(launch, sum.data() + shift, values.data() + shift,
                                      origin.data() + shift, weight,
                                      static_cast<std::int64_t>(x.size()));
        EXPECT_EQ(sum.back(), 99);
        EXPECT_TRUE(std::all_of(sum.begin(), sum.begin() + static_cast<std::ptrdiff_t>(shift),
                                [](std::uint64_t word) { return word == 77; }));
        sum.pop_back();
        return {split_words({sum.begin() + static_cast<std::ptrdiff_t>(shift), sum.end()})};
    });
}

TEST(AccumulateFixed, RoundsTiesToEven) {
    // 0.5, 1.5, 2.5 units of the last place and their negatives, then the largest that may come.
    const std::vector<float> x{0x1p-53F,    0x1.8p-52F,  0x1.4p-51F, -0x1p-53F,
                               -0x1.8p-52F, -0x1.4p-51F, 511.99997F, -511.99997F};
    const std::vector<float> zero(x.size());
    const auto biggest = static_cast<std::uint64_t>(511.99997F * 0x1p52);
    const std::vector<std::uint64_t> want{
        0, 2, 2, 0, ~std::uint64_t{1}, ~std::uint64_t{1}, biggest, ~biggest + 1};
    for (const std::size_t shift : {0, 1}) {
        const auto got = accumulated(x, zero, 1, std::vector<std::uint64_t>(x.size()), shift);
        EXPECT_TRUE(same_bits(got[0], split_words(want)));
    }
}

TEST(AccumulateFixed, HasTheBitsOfTheCpuAndWrapsAround) {
    for (const std::int64_t n : {1, 5, 64, 2051}) {
        const std::vector<float> x = to_floats(random_matrix(1, n, 1, 50)),
                                 x0 = to_floats(random_matrix(1, n, 2, 3));
        const double weight = 1.0 / 3;
        std::vector<std::uint64_t> before, want;
        for (std::size_t i = 0; i < x.size(); ++i) {
            before.push_back(0x9E3779B97F4A7C15U * (i + 1));
            const double difference = static_cast<double>(x[i]) - static_cast<double>(x0[i]);
            const double product = difference * weight;
            want.push_back(before[i] + static_cast<std::uint64_t>(std::llrint(product * 0x1p52)));
        }
        for (const std::size_t shift : {0, 1}) {
            const auto got = accumulated(x, x0, weight, before, shift);
            EXPECT_TRUE(same_bits(got[0], split_words(want))) << n << " from " << shift;
        }
    }
}

/// The place that the screen finds.
std::int64_t found(const std::vector<float>& x, const std::vector<float>* x0, double bound,
                   std::size_t shift = 0) {
    const auto got = run_twin([&](const emulate::Launch& launch) -> std::vector<Matrix> {
        std::vector<float> values(shift);
        values.insert(values.end(), x.begin(), x.end());
        std::int64_t place = 12345;
        cuda::launch_first_beyond(launch, &place, values.data() + shift,
                                  x0 == nullptr ? nullptr : x0->data(),
                                  static_cast<std::int64_t>(x.size()), bound);
        return {Matrix(1, 1, static_cast<double>(place))};
    });
    return static_cast<std::int64_t>(got[0](0, 0));
}

TEST(FirstBeyond, IsTheLowestPlaceOrMinusOne) {
    std::vector<float> x(3001, 1.5F);
    const std::vector<float> x0(3001, -510.0F);
    for (const std::size_t shift : {0, 1}) {
        EXPECT_EQ(found(x, nullptr, INFINITY, shift), -1);
        EXPECT_EQ(found({}, nullptr, 1, shift), -1);
        EXPECT_EQ(found(x, &x0, 512, shift), -1);
        EXPECT_EQ(found(x, &x0, 511.5, shift), 0) << "the bound itself is beyond";
    }
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
        x[3000] = bad;
        EXPECT_EQ(found(x, nullptr, INFINITY), 3000) << bad;
        EXPECT_EQ(found(x, &x0, 512), 3000) << bad;
    }
    x[1700] = 2.0F;
    EXPECT_EQ(found(x, &x0, 512), 1700);
    x[3] = x[2] = NAN;
    EXPECT_EQ(found(x, nullptr, INFINITY, 1), 2);
}

}  // namespace
}  // namespace fedit::test
