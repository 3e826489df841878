// tests/tensor/cuda/accuracy_test.cpp: in bf16 a kernel is off by at most twice what PyTorch's bf16
// run of the same operation on the same operands is off by; both are compared with double.
//
// PyTorch's errors come from bench/bf16_accuracy.py, which makes these operands too; they are
// recorded in bench/results/bf16_accuracy.md. Each kernel's error is a property of the test's
// report
// (--gtest_output=json:FILE), where that script finds it.
#include "tests/tensor/cuda/attention_twin.h"

#include "tensor/cuda/column_sums.cuh"
#include "tensor/cuda/cross_entropy.cuh"
#include "tensor/cuda/elementwise.cuh"
#include "tensor/cuda/lora.cuh"
#include "tensor/cuda/rms_norm.cuh"
#include "tensor/rope_table.h"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

constexpr Dtype bf16 = Dtype::bf16;
constexpr std::int64_t heads = 4, kv_heads = 2, tokens = 96;

/// Uniform in [0, 1): SplitMix64 of a place.
double uniform(std::uint64_t at) {
    std::uint64_t z = (at + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return static_cast<double>(z >> 40) * 0x1p-24;
}

/// Nearly normal values, each a sum of four uniform ones, in bf16.
Matrix operand(std::int64_t rows, std::int64_t cols, std::uint64_t stream, double scale = 1) {
    Matrix m(rows, cols);
    std::uint64_t at = stream << 32;
    for (double& value : m.values) {
        double sum = 0;
        for (int i = 0; i < 4; ++i) sum += uniform(at++);
        value = static_cast<float>((sum - 2) * std::sqrt(3.0) * scale);
    }
    return rounded_to(bf16, m);
}

/// ||got - want|| / ||want|| is at most twice PyTorch's. `name`: "operation__result".
void expect_as_accurate(const char* name, const Matrix& got, const Matrix& want, double pytorch) {
    ASSERT_EQ(got.values.size(), want.values.size());
    const auto [difference, norm] = deviation(got, want);
    const double error = difference / norm;
    testing::Test::RecordProperty(name, std::to_string(error));
    EXPECT_LE(error, 2 * pytorch) << name << ", PyTorch: " << pytorch;
}

Matrix zeros(const Matrix& like) {
    return {like.rows, like.cols};
}

const emulate::Launch launch({});

TEST(Bf16Accuracy, RmsNorm) {
    constexpr float eps = 1e-5F;
    const Matrix x0 = operand(64, 1024, 1), gain0 = operand(1, 1024, 2), dy0 = operand(64, 1024, 3);
    HostMatrix x(x0, bf16), gain(gain0, Dtype::fp32), dy(dy0, bf16), y(zeros(x0), bf16),
        dx(zeros(x0), bf16);
    cuda::launch_rms_norm(launch, y.view(), x.view(), {}, gain.floats(), eps);
    cuda::launch_rms_norm_backward(launch, dx.view(), dy.view(), x.view(), gain.floats(), eps);
    expect_as_accurate("rms_norm__y", y.values(), naive::rms_norm(x0, gain0, eps), 2.33e-3);
    expect_as_accurate("rms_norm__dx", dx.values(), naive::rms_norm_backward(dy0, x0, gain0, eps),
                       2.37e-3);
}

TEST(Bf16Accuracy, Rope) {
    constexpr std::int64_t head_dim = 64;
    const std::vector<float> frequencies = rotary_frequencies(head_dim);
    std::vector<std::int32_t> positions(tokens);
    for (std::size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<std::int32_t>(t);
    RopeTable table;
    table.cover(tokens, frequencies, 1);
    const Matrix x0 = operand(tokens, heads * head_dim, 4);
    HostMatrix x(x0, bf16);
    cuda::launch_rope(launch, x.view(), heads, {positions.data(), table.cosines(0)}, false);
    expect_as_accurate("rope__y", x.values(), naive::rope(x0, heads, positions, frequencies, 1, 1),
                       2.49e-3);
}

TEST(Bf16Accuracy, Swiglu) {
    const Matrix gate0 = operand(64, 512, 5, 3), up0 = operand(64, 512, 6),
                 dy0 = operand(64, 512, 7);
    HostMatrix gate(gate0, bf16), up(up0, bf16), dy(dy0, bf16), y(zeros(up0), bf16),
        dgate(zeros(up0), bf16), dup(zeros(up0), bf16);
    cuda::launch_swiglu(launch, y.view(), gate.view(), up.view());
    cuda::launch_swiglu_backward(launch, dgate.view(), dup.view(), dy.view(), gate.view(),
                                 up.view());
    const naive::SwigluGradients want = naive::swiglu_backward(dy0, gate0, up0);
    expect_as_accurate("swiglu__y", y.values(), naive::swiglu(gate0, up0), 2.31e-3);
    expect_as_accurate("swiglu__dgate", dgate.values(), want.dgate, 2.34e-3);
    expect_as_accurate("swiglu__dup", dup.values(), want.dup, 2.33e-3);
}

/// Results of attention, or PyTorch's errors in them.
template <class T>
struct OfAttention {
    T out, dq, dk, dv;
};

void expect_accurate_attention(By by, std::int64_t head_dim, const OfAttention<const char*>& name,
                               const OfAttention<double>& pytorch) {
    const AttentionShape shape{.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    const std::vector<std::int64_t> begin{0, tokens};
    const Matrix q0 = operand(tokens, heads * head_dim, 8),
                 k0 = operand(tokens, kv_heads * head_dim, 9),
                 v0 = operand(tokens, kv_heads * head_dim, 10),
                 dout0 = operand(tokens, heads * head_dim, 11);
    HostMatrix q(q0, bf16), k(k0, bf16), v(v0, bf16), dout(dout0, bf16), out(zeros(q0), bf16),
        dq(zeros(q0), bf16), dk(zeros(k0), bf16), dv(zeros(v0), bf16),
        lse(Matrix(heads, tokens), Dtype::fp32), delta(Matrix(heads, tokens), Dtype::fp32);
    const cuda::DeviceSequences sequences{.count = 1, .begin = begin.data()};
    const Tiles tiles(launch, by);
    cuda::launch_attention(launch, tiles, out.view(), lse.floats(), q.view(), k.view(), v.view(),
                           shape, sequences);
    cuda::launch_attention_backward(launch, tiles,
                                    {.q = q.view(),
                                     .k = k.view(),
                                     .v = v.view(),
                                     .out = out.view(),
                                     .dout = dout.view(),
                                     .dq = dq.view(),
                                     .dk = dk.view(),
                                     .dv = dv.view()},
                                    lse.floats(), delta.floats(), shape, sequences, {});
    const Sequences host{.begin = begin, .kv_begin = {}, .kv_end = {}};
    const auto want = naive::attention_backward(dout0, q0, k0, v0, shape, host);
    expect_as_accurate(name.out, out.values(), naive::attention(q0, k0, v0, shape, host).out,
                       pytorch.out);
    expect_as_accurate(name.dq, dq.values(), want.dq, pytorch.dq);
    expect_as_accurate(name.dk, dk.values(), want.dk, pytorch.dk);
    expect_as_accurate(name.dv, dv.values(), want.dv, pytorch.dv);
}

TEST(Bf16Accuracy, Attention) {
    for (const By by : {By::groups, By::warps}) {
        expect_accurate_attention(by, 64,
                                  {"attention_of_64__out", "attention_of_64__dq",
                                   "attention_of_64__dk", "attention_of_64__dv"},
                                  {1.85e-3, 2.45e-3, 3.78e-3, 3.90e-3});
        expect_accurate_attention(by, 128,
                                  {"attention_of_128__out", "attention_of_128__dq",
                                   "attention_of_128__dk", "attention_of_128__dv"},
                                  {1.90e-3, 2.58e-3, 3.84e-3, 3.51e-3});
    }
}

TEST(Bf16Accuracy, Lora) {
    constexpr std::int64_t rows = 70, in = 256, out = 192, rank = 16;
    constexpr float scale = 2;
    const Matrix x0 = operand(rows, in, 12), y0 = operand(rows, out, 13),
                 a0 = operand(rank, in, 14, 0.25), b0 = operand(out, rank, 15, 0.25),
                 dy0 = operand(rows, out, 16);
    HostMatrix x(x0, bf16), y(y0, bf16), dy(dy0, bf16), dx(zeros(x0), bf16),
        s(Matrix(rows, rank), bf16), ds(Matrix(rows, rank), bf16), a(a0, Dtype::fp32),
        b(b0, Dtype::fp32), da(zeros(a0), Dtype::fp32), db(zeros(b0), Dtype::fp32);
    const LoraSlot slot{.a = a.floats(),
                        .b = b.floats(),
                        .da = da.floats(),
                        .db = db.floats(),
                        .rank = rank,
                        .scale = scale};
    const std::vector<std::int64_t> begin{0, rows};
    const cuda::DeviceSlots slots{
        .count = 1, .row_begin = begin.data(), .adapters = &slot, .largest_rank = rank};
    const cuda::DeviceLayer forward{y.view(), s.view(), slots},
        backward{dy.view(), s.view(), slots};
    HostMatrix scratch(
        Matrix(1, static_cast<std::int64_t>(
                      cuda::lora_backward_scratch_bytes({&backward, 1}, x.view()) / sizeof(float))),
        Dtype::fp32);
    cuda::launch_lora(launch, {&forward, 1}, x.view(), {}, {}, scratch.floats());
    cuda::launch_lora_backward(launch, dx.view(), ds.view(), {&backward, 1}, x.view(), {},
                               scratch.floats());
    const Matrix all(rows, in, 1);
    Matrix want_y = naive::lora(x0, all, a0, b0, scale).y;
    for (std::size_t i = 0; i < want_y.values.size(); ++i) want_y.values[i] += y0.values[i];
    const auto want = naive::lora_backward(dy0, x0, all, a0, b0, scale);
    expect_as_accurate("lora__y", y.values(), want_y, 2.91e-3);
    expect_as_accurate("lora__dx", dx.values(), want.dx, 2.39e-3);
    expect_as_accurate("lora__da", da.values(), want.da, 2.34e-3);
    expect_as_accurate("lora__db", db.values(), want.db, 2.40e-3);
}

TEST(Bf16Accuracy, CrossEntropy) {
    const Matrix logits0 = operand(16, 2000, 17, 5);
    HostMatrix logits(logits0, Dtype::fp32);
    std::vector<std::int32_t> targets;
    for (int i = 0; i < 16; ++i) targets.push_back(i * 7919 % 2000);
    const std::vector<float> weights(targets.size(), 1);
    std::vector<double> loss(targets.size());
    cuda::launch_cross_entropy(launch, loss.data(), nullptr, logits.view(), targets.data(),
                               weights.data(), bf16);
    const TensorView written = cuda::gradient_view(logits.view(), bf16);
    Matrix got(written.rows, written.cols), want = got;
    for (std::int64_t i = 0; i < got.rows; ++i) {
        double total = 0;
        for (std::int64_t j = 0; j < got.cols; ++j) total += std::exp(logits0(i, j));
        for (std::int64_t j = 0; j < got.cols; ++j) {
            const auto* const values = static_cast<const cuda::Bf16*>(written.data);
            got(i, j) = cuda::to_float(values[i * written.stride + j]);
            want(i, j) = std::exp(logits0(i, j)) / total -
                         (j == targets[static_cast<std::size_t>(i)] ? 1 : 0);
        }
    }
    expect_as_accurate("cross_entropy__dlogits", got, want, 5.30e-4);
}

TEST(Bf16Accuracy, BiasGradient) {
    const Matrix dy0 = operand(300, 128, 18);
    HostMatrix dy(dy0, bf16), sum(Matrix(1, 128), Dtype::fp32),
        scratch(Matrix(1, cuda::column_sums_scratch(300, 128)), Dtype::fp32);
    cuda::launch_column_sums(launch, sum.floats(), dy.view(), scratch.floats());
    Matrix want(1, 128);
    for (std::int64_t i = 0; i < 300; ++i) {
        for (std::int64_t j = 0; j < 128; ++j) want(0, j) += dy0(i, j);
    }
    expect_as_accurate("bias__db", sum.values(), want, 1.70e-3);
}

}  // namespace
}  // namespace fedit::test
