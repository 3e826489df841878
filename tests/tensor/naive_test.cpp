// tests/tensor/naive_test.cpp: the naive gradients against finite differences of the naive
// forwards, so that a back end held to the loops is held to calculus.
#include "tests/support/naive.h"

#include "tests/support/compare.h"

namespace fedit::test {
namespace {

// Central differences in double are good to about 1e-9 of the loss.
constexpr double tolerance = 1e-7;

TEST(Naive, LinearGradient) {
    const Matrix x = random_matrix(3, 5, 1), w = random_matrix(4, 5, 2),
                 dy = random_matrix(3, 4, 3);
    const auto loss = [&](const Matrix& at) { return dot(dy, naive::multiply(at, transpose(w))); };
    EXPECT_TRUE(close(naive::multiply(dy, w), finite_difference(loss, x), tolerance));
}

TEST(Naive, LoraGradients) {
    const Matrix x = random_matrix(4, 6, 1), a = random_matrix(2, 6, 2), b = random_matrix(5, 2, 3),
                 dy = random_matrix(4, 5, 4);
    Matrix mask(4, 6, 2.0);
    mask(0, 0) = mask(2, 3) = mask(3, 5) = 0;
    const naive::LoraGradients g = naive::lora_backward(dy, x, mask, a, b, 0.7);
    const auto of_x = [&](const Matrix& at) { return dot(dy, naive::lora(at, mask, a, b, 0.7).y); };
    const auto of_a = [&](const Matrix& at) { return dot(dy, naive::lora(x, mask, at, b, 0.7).y); };
    const auto of_b = [&](const Matrix& at) { return dot(dy, naive::lora(x, mask, a, at, 0.7).y); };
    EXPECT_TRUE(close(g.dx, finite_difference(of_x, x), tolerance));
    EXPECT_TRUE(close(g.da, finite_difference(of_a, a), tolerance));
    EXPECT_TRUE(close(g.db, finite_difference(of_b, b), tolerance));
}

TEST(Naive, RmsNormGradient) {
    const Matrix x = random_matrix(3, 7, 1), gain = random_matrix(1, 7, 2),
                 dy = random_matrix(3, 7, 3);
    const auto loss = [&](const Matrix& at) { return dot(dy, naive::rms_norm(at, gain, 1e-3)); };
    EXPECT_TRUE(
        close(naive::rms_norm_backward(dy, x, gain, 1e-3), finite_difference(loss, x), tolerance));
}

TEST(Naive, RopeGradientIsTheInverseRotation) {
    const Matrix x = random_matrix(2, 8, 1), dy = random_matrix(2, 8, 2);
    const std::vector<std::int32_t> positions{3, 11};
    const std::vector<float> inv_freq{1.0F, 0.1F};
    const auto loss = [&](const Matrix& at) {
        return dot(dy, naive::rope(at, 2, positions, inv_freq, 1.3, 1));
    };
    EXPECT_TRUE(close(naive::rope(dy, 2, positions, inv_freq, 1.3, -1), finite_difference(loss, x),
                      tolerance));
}

TEST(Naive, AttentionGradients) {
    const std::vector<std::int64_t> begin{0, 3, 3, 7};
    const Sequences sequences{begin};
    const Matrix q = random_matrix(7, 12, 1), k = random_matrix(7, 6, 2),
                 v = random_matrix(7, 6, 3), dout = random_matrix(7, 12, 4);
    for (const std::int64_t window : {0, 2}) {
        const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 3, .window = window};
        const auto g = naive::attention_backward(dout, q, k, v, shape, sequences);
        const auto of_q = [&](const Matrix& at) {
            return dot(dout, naive::attention(at, k, v, shape, sequences).out);
        };
        const auto of_k = [&](const Matrix& at) {
            return dot(dout, naive::attention(q, at, v, shape, sequences).out);
        };
        const auto of_v = [&](const Matrix& at) {
            return dot(dout, naive::attention(q, k, at, shape, sequences).out);
        };
        EXPECT_TRUE(close(g.dq, finite_difference(of_q, q), tolerance)) << "window " << window;
        EXPECT_TRUE(close(g.dk, finite_difference(of_k, k), tolerance)) << "window " << window;
        EXPECT_TRUE(close(g.dv, finite_difference(of_v, v), tolerance)) << "window " << window;
    }
}

TEST(Naive, SwigluGradients) {
    const Matrix gate = random_matrix(3, 5, 1), up = random_matrix(3, 5, 2),
                 dy = random_matrix(3, 5, 3);
    const naive::SwigluGradients g = naive::swiglu_backward(dy, gate, up);
    const auto of_gate = [&](const Matrix& at) { return dot(dy, naive::swiglu(at, up)); };
    const auto of_up = [&](const Matrix& at) { return dot(dy, naive::swiglu(gate, at)); };
    EXPECT_TRUE(close(g.dgate, finite_difference(of_gate, gate), tolerance));
    EXPECT_TRUE(close(g.dup, finite_difference(of_up, up), tolerance));
}

TEST(Naive, CrossEntropyGradient) {
    const Matrix x = random_matrix(3, 4, 1), head = random_matrix(9, 4, 2);
    const std::vector<std::int32_t> targets{0, 8, 3};
    const std::vector<float> weight{0.5F, 0.25F, 0.0F};
    Matrix weights(3, 1);
    for (std::int64_t i = 0; i < 3; ++i) weights(i, 0) = weight[static_cast<std::size_t>(i)];
    const auto loss = [&](const Matrix& at) {
        return dot(weights, naive::cross_entropy(at, head, targets));
    };
    const auto of_head = [&](const Matrix& at) {
        return dot(weights, naive::cross_entropy(x, at, targets));
    };
    const naive::HeadGradients g = naive::cross_entropy_backward(x, head, targets, weight);
    EXPECT_TRUE(close(g.dx, finite_difference(loss, x), tolerance));
    EXPECT_TRUE(close(g.dhead, finite_difference(of_head, head), tolerance));
}

}  // namespace
}  // namespace fedit::test
