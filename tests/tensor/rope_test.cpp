// tests/tensor/rope_test.cpp: rotary embedding, its inverse, and tables that change.
#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

struct Case {
    std::int64_t rows, heads, head_dim, padding;
};

class Rope : public OnEveryBackend<Case> {};

TEST_P(Rope, AgreesWithDoubleLoopsForwardAndBackward) {
    const auto [rows, heads, head_dim, padding] = test_case();
    const std::int64_t cols = heads * head_dim;
    const std::vector<float> inv_freq = rotary_frequencies(head_dim);
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < rows; ++t) {
        positions.push_back(static_cast<std::int32_t>(t * 37 % 101));
    }
    const Matrix x = random(rows, cols, 1);
    for (const bool inverse : {false, true}) {
        const DeviceMatrix device_x = activations(x, cols + padding);
        backend().rope(device_x.view(), heads, {positions, inv_freq, 1.25F}, inverse);
        const Matrix want = naive::rope(x, heads, positions, inv_freq, 1.25, inverse ? -1.0 : 1.0);
        EXPECT_TRUE(close_enough(device_x.values(), want)) << "inverse " << inverse;
    }
}

TEST_P(Rope, FollowsFrequenciesScaleAndLargerPositions) {
    const Matrix x = random(2, 8, 1);
    const std::vector<float> slow{0.01F, 0.002F, 1e-3F, 1e-4F}, fast{1.0F, 0.5F, 0.25F, 0.125F};
    const std::vector<std::int32_t> small{0, 3}, large{5000, 2};
    const auto rotate = [&](const std::vector<float>& inv_freq,
                            const std::vector<std::int32_t>& positions, float scale) {
        const DeviceMatrix device_x = activations(x);
        backend().rope(device_x.view(), 1, {positions, inv_freq, scale}, false);
        EXPECT_TRUE(
            close_enough(device_x.values(), naive::rope(x, 1, positions, inv_freq, scale, 1)));
    };
    rotate(slow, small, 1);
    rotate(slow, large, 1);
    rotate(fast, small, 1);
    rotate(fast, small, 2);
    rotate(slow, large, 1);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rope,
                         on_every_backend({Case{1, 1, 2, 0}, Case{7, 1, 64, 0}, Case{33, 5, 26, 6},
                                           Case{70, 3, 80, 0}}),
                         named_by([](const Case& c) {
                             return std::to_string(c.rows) + "x" + std::to_string(c.heads) + "x" +
                                    std::to_string(c.head_dim);
                         }));

}  // namespace
}  // namespace fedit::test
