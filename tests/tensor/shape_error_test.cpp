// tests/tensor/shape_error_test.cpp: operands that do not fit are named with both shapes, before
// any data is touched.
#include "fedit/core/error.h"
#include "tests/support/compare.h"

namespace fedit::test {
namespace {

class ShapeErrors : public testing::Test {
protected:
    /// Expects ShapeError whose text holds each of `parts`.
    template <class Call>
    void expect_error(const Call& call, const std::vector<std::string>& parts) {
        try {
            call();
            ADD_FAILURE() << "accepted";
        } catch (const ShapeError& error) {
            const std::string text = error.what();
            for (const std::string& part : parts) {
                EXPECT_NE(text.find(part), std::string::npos) << "no \"" << part << "\" in:\n"
                                                              << text;
            }
        }
    }
    DeviceMatrix matrix(std::int64_t rows, std::int64_t cols) {
        return {*backend_, Shape{rows, cols}};
    }

    std::unique_ptr<Backend> backend_ = make_cpu_backend(1);
};

TEST_F(ShapeErrors, Products) {
    const DeviceWeight w(*backend_, Matrix(4, 3));
    const DeviceMatrix x = matrix(2, 5), y = matrix(2, 4), good_x = matrix(3, 3);
    expect_error([&] { backend_->linear(y.view(), x.view(), w.get(), nullptr, false); },
                 {"linear", "x (2 x 5)", "weight (4 x 3)"});
    expect_error([&] { backend_->linear(y.view(), good_x.view(), w.get(), nullptr, false); },
                 {"linear", "y (2 x 4)", "x (3 x 3)"});
    expect_error([&] { backend_->linear_dx(x.view(), y.view(), w.get(), false); },
                 {"linear_dx", "dx (2 x 5)", "weight (4 x 3)"});
    const std::vector<std::byte> half_a_row(6), rows(12);
    const std::vector<std::span<const std::byte>> cut{half_a_row, rows}, whole{half_a_row};
    expect_error([&] { backend_->pack_bf16(nullptr, Dtype::fp32, cut, 2, 6); },
                 {"pack_bf16", "a part's bytes (6 x 1)", "weight (2 x 6)"});
    expect_error([&] { backend_->pack_bf16(nullptr, Dtype::fp32, whole, 2, 3); },
                 {"pack_bf16", "values (3 x 1)", "weight (2 x 3)"});
    expect_error([&] { backend_->pack(nullptr, Dtype::fp32, std::vector<float>(5), 2, 3); },
                 {"pack", "values (5 x 1)", "weight (2 x 3)"});
}

TEST_F(ShapeErrors, Adapters) {
    const DeviceMatrix x = matrix(6, 5), y = matrix(6, 4), s = matrix(6, 2);
    const std::vector<std::int64_t> begin{0, 6}, short_begin{0, 5};
    const std::vector<LoraSlot> large{LoraSlot{.rank = 3}}, two(2);
    const auto lora = [&](const std::vector<std::int64_t>& rows, const std::vector<LoraSlot>& slots,
                          const Dropout& dropout) {
        const LoraLayer layer{y.view(), s.view(), slots};
        backend_->lora({&layer, 1}, x.view(), {rows}, dropout, {});
    };
    expect_error([&] { lora(begin, large, {}); }, {"lora", "s (6 x 2)", "adapter a (3 x 5)"});
    expect_error([&] { lora(short_begin, large, {}); }, {"slots (5 rows)", "x (6 x 5)"});
    expect_error([&] { lora(begin, two, {}); }, {"slots (1 x 1)", "adapters (2 x 1)"});
    const auto dropping = [](float p) {
        Dropout dropout;
        dropout.p = p;
        return dropout;
    };
    const std::vector<LoraSlot> small{LoraSlot{.rank = 0}};
    expect_error([&] { lora(begin, small, dropping(1.5F)); }, {"dropout 1.5"});
    expect_error([&] { lora(begin, small, dropping(0.5F)); },
                 {"dropout keys (0 x 1)", "slots (1 x 1)"});
    const LoraLayer turned{y.view(), s.view(), small, 0, 2};
    const std::vector<float> three(3);
    expect_error(
        [&] {
            backend_->lora({&turned, 1}, x.view(), {begin}, {}, {{}, three, 1});
        },
        {"lora", "y (6 x 4)", "heads x 2 frequencies (2 x 6)"});
    const std::vector<LoraLayer> layers{{y.view(), s.view(), small, 0},
                                        {y.view(), s.view(), small, 1}};
    const DeviceMatrix ds = matrix(6, 3), act = matrix(6, 3);
    expect_error([&] { backend_->lora_backward({}, ds.view(), layers, x.view(), {begin}, {}); },
                 {"lora_backward", "ds (6 x 3)", "all s (6 x 4)"});
    expect_error([&] { backend_->lora_swiglu(act.view(), layers, x.view(), {begin}, {}); },
                 {"swiglu", "gate (6 x 4)", "y (6 x 3)"});
}

TEST_F(ShapeErrors, Layers) {
    const DeviceMatrix a = matrix(6, 8), b = matrix(6, 7), table = matrix(3, 8);
    expect_error([&] { backend_->rms_norm(a.view(), b.view(), {}, nullptr, 0); },
                 {"rms_norm", "y (6 x 8)", "x (6 x 7)"});
    expect_error([&] { backend_->head_rms_norm(a.view(), a.view(), 3, nullptr, 0); },
                 {"head_rms_norm", "x (6 x 8)", "3 heads"});
    expect_error([&] { backend_->swiglu(a.view(), a.view(), b.view()); },
                 {"swiglu", "up (6 x 7)", "gate (6 x 8)"});
    const std::vector<std::int32_t> tokens{0, 1, 2, 3, 0, 0};
    expect_error([&] { backend_->embedding(a.view(), table.view(), tokens); },
                 {"embedding", "token 3", "table (3 x 8)"});
    const std::vector<float> inv_freq(2);
    expect_error(
        [&] {
            backend_->rope(a.view(), 1, {tokens, inv_freq}, false);
        },
        {"rope", "x (6 x 8)", "1 x 4"});
    const std::vector<std::int64_t> begin{0, 6}, beyond{0, 9};
    const AttentionShape shape{.heads = 2, .kv_heads = 1, .head_dim = 4};
    expect_error(
        [&] {
            backend_->attention(a.view(), nullptr, a.view(), b.view(), b.view(), shape, {begin});
        },
        {"attention", "k (6 x 7)", "6 x 4"});
    const TensorView kv = a.view().columns(0, 4);
    expect_error([&] { backend_->attention(a.view(), nullptr, a.view(), kv, kv, shape, {beyond}); },
                 {"attention", "sequences (9 rows)", "q (6 x 8)"});
    const std::vector<std::int64_t> kv_begin{0}, few{5}, many{7}, good{6}, none;
    const auto attend = [&](const Sequences& sequences) {
        backend_->attention(a.view(), nullptr, a.view(), kv, kv, shape, sequences);
    };
    expect_error(
        [&] {
            attend({begin, kv_begin, few});
        },
        {"keys [0, 5) of sequence 0", "its 6 queries"});
    expect_error([&] { attend({begin, kv_begin, many}); }, {"keys [0, 7)", "k (6 x 4)"});
    expect_error([&] { attend({begin, kv_begin, none}); }, {"ranges of keys"});
    expect_error(
        [&] {
            backend_->attention_backward(a.view(), kv, kv, a.view(), a.view(), nullptr, a.view(),
                                         kv, kv, shape, {begin, kv_begin, good}, {});
        },
        {"attention_backward", "keys are not the queries' rows"});
    const AttentionShape negative{.heads = 2, .kv_heads = 1, .head_dim = 4, .window = -1};
    expect_error(
        [&] { backend_->attention(a.view(), nullptr, a.view(), kv, kv, negative, {begin}); },
        {"window -1"});
}

TEST_F(ShapeErrors, RotationsOfGradients) {
    const DeviceMatrix q = matrix(3, 8), k = matrix(3, 4), lse = matrix(2, 3);
    const std::vector<std::int64_t> begin{0, 3};
    const auto expect = [&](const std::vector<std::int32_t>& positions,
                            const std::vector<float>& inv_freq,
                            const std::vector<std::string>& parts) {
        expect_error(
            [&] {
                backend_->attention_backward(q.view(), k.view(), k.view(), q.view(), q.view(),
                                             lse.floats(), q.view(), k.view(), k.view(), {2, 1, 4},
                                             {begin}, {positions, inv_freq});
            },
            parts);
    };
    expect({0, 1, 2}, {1, 1, 1}, {"attention_backward", "dq (3 x 8)", "2 x 6"});
    expect({0, 1}, {1, 1}, {"attention_backward", "positions (2 x 1)", "dq (3 x 8)"});
    expect({0, -3, 1}, {1, 1}, {"attention_backward", "position -3 is negative"});
}

TEST_F(ShapeErrors, TypesThatDifferOrThatTheCpuDoesNotKnow) {
    const DeviceMatrix a = matrix(2, 3), b = matrix(2, 3);
    TensorView half = b.view(), other_half = a.view();
    half.dtype = other_half.dtype = Dtype::bf16;
    expect_error([&] { backend_->rms_norm(half, a.view(), {}, nullptr, 0); },
                 {"rms_norm", "y is bf16", "x is fp32"});
    expect_error([&] { backend_->swiglu(half, other_half, other_half); },
                 {"swiglu", "(2 x 3) is bf16", "fp32 alone"});
    const std::vector<std::int32_t> tokens{0, 1};
    expect_error([&] { backend_->embedding(a.view(), half, tokens); },
                 {"embedding", "table is not fp32"});
    const DeviceWeight w(*backend_, Matrix(3, 3));
    expect_error([&] { backend_->linear(half, a.view(), w.get(), nullptr, false); },
                 {"linear", "y is bf16", "x is fp32"});
    expect_error([&] { backend_->linear(a.view(), half, w.get(), nullptr, false); },
                 {"linear", "is bf16", "fp32 alone"});
}

TEST_F(ShapeErrors, LossRowsAndVectors) {
    const DeviceWeight head(*backend_, Matrix(4, 3));
    const DeviceMatrix x = matrix(2, 3), wide = matrix(2, 5);
    std::vector<double> loss(2);
    const std::vector<std::int32_t> targets{0, 4};
    expect_error(
        [&] { backend_->cross_entropy(loss, {}, {}, x.view(), head.get(), targets, {}, {}); },
        {"cross_entropy", "target 4", "head (4 x 3)"});
    expect_error(
        [&] { backend_->cross_entropy(loss, {}, {}, wide.view(), head.get(), targets, {}, {}); },
        {"x (2 x 5)", "head (4 x 3)"});
    std::vector<std::int32_t> best(1);
    expect_error(
        [&] { backend_->cross_entropy(loss, {}, {}, x.view(), head.get(), targets, {}, best); },
        {"best", "x (2 x 3)"});
    const DeviceMatrix dx = matrix(2, 3), dhead = matrix(3, 3);
    const std::vector<std::int32_t> inside{0, 3};
    const std::vector<float> weight(2);
    expect_error(
        [&] {
            backend_->cross_entropy(loss, dx.view(), dhead.view(), x.view(), head.get(), inside,
                                    weight, {});
        },
        {"dhead (3 x 3)", "head (4 x 3)"});
    expect_error([&] { backend_->linear_dw(dhead.view(), nullptr, wide.view(), x.view()); },
                 {"linear_dw", "dw (3 x 3)", "dy (2 x 5)"});
    const std::vector<std::int64_t> rows{0, 2};
    expect_error([&] { backend_->gather_rows(x.view(), x.view(), rows); },
                 {"row 2", "all (2 x 3)"});
    std::vector<float> a(3), b(4);
    expect_error([&] { backend_->sgd(a, b, 1, 0); }, {"g (4 x 1)", "x (3 x 1)"});
}

}  // namespace
}  // namespace fedit::test
