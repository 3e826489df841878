// tests/tensor/dropout_test.cpp: masks of adapters' inputs.
#include <cmath>

#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

/// Masks as the back end draws them, read through an adapter of A = B = 1: with x = dy = 1, s is
/// the forward pass's mask and dx that of the backward pass.
struct DrawnMasks {
    Matrix forward, backward;
};

constexpr std::uint32_t mask_module = 3;

DrawnMasks draw_masks(Backend& backend, Dtype dtype, const Dropout& dropout, std::int64_t rows,
                      std::int64_t cols) {
    Matrix identity(cols, cols);
    for (std::int64_t i = 0; i < cols; ++i) identity(i, i) = 1;
    const DeviceMatrix factor(backend, identity), da(backend, identity), db(backend, identity);
    const auto activations = [&](double value) {
        return DeviceMatrix(backend, Matrix(rows, cols, value), 0, dtype);
    };
    const DeviceMatrix ones = activations(1), y = activations(0), s = activations(0),
                       dx = activations(0), ds = activations(0);
    const LoraSlot slot{.a = factor.floats(),
                        .b = factor.floats(),
                        .da = da.floats(),
                        .db = db.floats(),
                        .rank = cols};
    const std::vector<std::int64_t> row_begin{0, rows};
    const std::span<const LoraSlot> adapters(&slot, 1);
    const LoraLayer forward{y.view(), s.view(), adapters, mask_module},
        backward{ones.view(), s.view(), adapters, mask_module};
    backend.lora({&forward, 1}, ones.view(), {row_begin}, dropout, {});
    backend.lora_backward(dx.view(), ds.view(), {&backward, 1}, ones.view(), {row_begin}, dropout);
    return {s.values(), dx.values()};
}

class LoraMask : public OnEveryBackend<float> {};

TEST_P(LoraMask, IsThatOfAScalarLoopForwardAndBackward) {
    const std::int64_t rows = 37;
    std::vector<std::int64_t> counters;
    for (std::int64_t t = 0; t < rows; ++t) counters.push_back(t * 5 + (t % 4 << 32));
    const std::vector<std::uint64_t> keys{0xfedcba9876543210};
    const Dropout dropout{.p = test_case(), .slot_key = keys, .row_counter = counters};
    const double p = static_cast<double>(dropout.threshold()) / 65536;
    EXPECT_NEAR(p, test_case(), 0.5 / 65536 + 1e-7);
    for (const std::int64_t cols : {203, 200}) {  // for plain kernels, and for tensor cores
        SCOPED_TRACE(std::to_string(cols) + " columns");
        const Matrix want =
            stored(naive::dropout_mask(dropout, mask_module, 0, 0, rows, cols), dtype());
        const DrawnMasks drawn = draw_masks(backend(), dtype(), dropout, rows, cols);
        EXPECT_TRUE(same_bits(drawn.forward, want));
        EXPECT_TRUE(same_bits(drawn.backward, want));

        double dropped = 0;
        for (const double value : drawn.forward.values) dropped += value == 0 ? 1 : 0;
        const auto count = static_cast<double>(rows * cols);
        // Five standard deviations of a binomial share.
        EXPECT_NEAR(dropped / count, p, 5 * std::sqrt(p * (1 - p) / count));
    }
}

INSTANTIATE_TEST_SUITE_P(Probabilities, LoraMask,
                         on_every_backend({0.05F, 0.1F, 0.5F, 0.999F, 1e-6F}),
                         named_by([](float p) {
                             return "p" + std::to_string(std::lround(1e6F * p)) + "_millionths";
                         }));

TEST(LoraDropout, ThresholdAndFactorAreThoseOfSixteenBits) {
    EXPECT_EQ(Dropout{.p = 0.05F}.threshold(), 3277U);
    EXPECT_EQ(Dropout{.p = 0.5F}.threshold(), 32768U);
    EXPECT_EQ(Dropout{.p = 0.5F}.factor(), 2.0F);
    EXPECT_EQ(Dropout{.p = 0.75F}.factor(), 4.0F);
    EXPECT_EQ(Dropout{.p = 1e-6F}.threshold(), 0U);
    EXPECT_EQ(Dropout{.p = 1e-6F}.factor(), 1.0F);
    EXPECT_EQ(Dropout{.p = 0.9999999F}.threshold(), 65535U);
    EXPECT_EQ(Dropout{.p = 0.9999999F}.factor(), 65536.0F);
}

TEST(LoraDropout, AMemberHasItsMaskAloneAndInCompany) {
    const std::int64_t in = 40, out = 12, rank = 4, rows = 21;
    const auto backend = make_cpu_backend(1);
    const Matrix x = random_matrix(2 * rows, in, 1), a = random_matrix(rank, in, 2),
                 b = random_matrix(out, rank, 3);
    const DeviceMatrix device_x(*backend, x), device_a(*backend, a), device_b(*backend, b);
    const LoraSlot slot{.a = device_a.floats(), .b = device_b.floats(), .rank = rank};
    std::vector<std::int64_t> counters;
    for (std::int64_t t = 0; t < 2 * rows; ++t) counters.push_back(t % rows);
    const std::vector<std::uint64_t> keys{11, 22};

    const DeviceMatrix y(*backend, Shape{2 * rows, out}), s(*backend, Shape{2 * rows, rank});
    const std::vector<std::int64_t> both{0, rows, 2 * rows};
    const std::vector<LoraSlot> two{slot, slot};
    const LoraLayer company{y.view(), s.view(), two, 1};
    backend->lora({&company, 1}, device_x.view(), {both},
                  {.p = 0.3F, .slot_key = keys, .row_counter = counters}, {});

    const DeviceMatrix y_alone(*backend, Shape{rows, out}), s_alone(*backend, Shape{rows, rank});
    const std::vector<std::int64_t> one{0, rows};
    const LoraLayer alone{y_alone.view(), s_alone.view(), std::span(&slot, 1), 1};
    backend->lora({&alone, 1}, device_x.view().row_range(rows, rows), {one},
                  {.p = 0.3F,
                   .slot_key = std::span(keys).subspan(1),
                   .row_counter = std::span(counters).subspan(static_cast<std::size_t>(rows))},
                  {});
    EXPECT_TRUE(same_bits(y_alone.values(), rows_of(y.values(), rows, rows)));
    EXPECT_FALSE(same_bits(rows_of(s.values(), 0, rows), s_alone.values()));
}

}  // namespace
}  // namespace fedit::test
