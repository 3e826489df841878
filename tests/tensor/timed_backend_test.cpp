// tests/tensor/timed_backend_test.cpp: every operation is passed on unchanged and counted once.
#include "fedit/tensor/timed_backend.h"

#include <functional>

#include "tests/support/compare.h"

namespace fedit::test {
namespace {

constexpr std::int64_t rows = 6, width = 8;  // two heads of four

/// Operands for any operation, the same in whatever back end.
struct Operands {
    explicit Operands(Backend& compute) : backend(compute) {
        for (std::uint32_t i = 0; i < 11; ++i) {
            matrices.emplace_back(backend, random_matrix(rows, width, i));
        }
        // A second moment is positive.
        backend.fill(flat(8), 0.5F);
        loss.resize(static_cast<std::size_t>(rows));
        best.resize(loss.size());
        adapters = {{p(4), p(5), p(6), p(7), 2, 0.5F}, {p(5), p(4), p(7), p(6), 3, 2.0F}};
    }

    TensorView m(std::size_t i) const { return matrices[i].view(); }
    float* p(std::size_t i) const { return matrices[i].floats(); }
    std::span<float> flat(std::size_t i) const { return {p(i), rows * width}; }
    Rotary rotary() const { return {positions, frequencies, 1.5F}; }
    Slots slots() const { return {slot_begin}; }
    TensorView rank3(std::size_t i) const { return fp32_view(p(i), rows, 3); }

    /// Shows what `packed` (2 x 4) holds, whose bytes may have gaps, in the first matrix.
    void multiply_by_packed() const {
        backend.linear(fp32_view(p(0), rows, 2), fp32_view(p(1), rows, 4),
                       {packed.data(), packed.bytes(), Dtype::fp32, 2, 4}, nullptr, false);
    }

    /// All that an operation can have written, but for `packed`.
    std::vector<double> results() const {
        std::vector<double> all = loss;
        all.insert(all.end(), best.begin(), best.end());
        const auto add = [&](const DeviceMatrix& matrix) {
            const Matrix values = matrix.values();
            all.insert(all.end(), values.values.begin(), values.values.end());
        };
        for (const DeviceMatrix& matrix : matrices) add(matrix);
        add(square);
        return all;
    }

    Backend& backend;
    std::vector<DeviceMatrix> matrices;
    DeviceMatrix square{backend, random_matrix(width, width, 21)};
    DeviceWeight weight{backend, random_matrix(width, width, 20)};
    DeviceBuffer packed{backend, backend.packed_bytes(Dtype::fp32, 2, 4)};
    std::vector<std::int64_t> slot_begin{0, 4, rows}, begin{0, 2, rows}, some_rows{0, 2, 5};
    std::vector<std::int64_t> counter{0, 1, 2, 3, 0, 1};
    std::vector<std::uint64_t> keys{11, 12};
    std::vector<std::int32_t> tokens{5, 0, 3, 3, 1, 2}, positions{0, 1, 0, 1, 2, 3};
    std::vector<float> frequencies{1.0F, 0.1F}, weights{1, 2, 3, 4, 5, 6};
    std::vector<LoraSlot> adapters;
    std::vector<double> loss;
    std::vector<std::int32_t> best;
};

struct Call {
    std::string name;
    StepPhase phase;
    double flop;
    std::function<void(Operands&, Backend&)> run;
};

const AttentionShape shape{.heads = 2, .kv_heads = 2, .head_dim = 4};

std::vector<Call> calls() {
    using enum StepPhase;
    const double product = 2.0 * rows * width * width;
    const double lora_rows = 4 * 2 + 2 * 3;
    const auto dropout = [](Operands& o) { return Dropout{0.25F, o.keys, o.counter}; };
    return {
        {"allocate", memory, 0, [](Operands&, Backend& b) { b.release(b.allocate(64)); }},
        {"upload", memory, 0,
         [](Operands& o, Backend& b) { b.upload(o.p(0), std::as_bytes(std::span(o.weights))); }},
        {"download", memory, 0,
         [](Operands& o, Backend& b) {
             b.download(std::as_writable_bytes(std::span(o.loss)), o.p(1));
         }},
        {"pack", memory, 0,
         [](Operands& o, Backend& b) {
             const std::vector<float> values(width, 1.5F);
             b.pack(o.packed.data(), Dtype::fp32, values, 2, 4);
             o.multiply_by_packed();
         }},
        {"pack_bf16", memory, 0,
         [](Operands& o, Backend& b) {
             const std::vector<std::uint16_t> bits(8, 0x3fc0);  // 1.5
             const std::span<const std::byte> packed_rows = std::as_bytes(std::span(bits));
             b.pack_bf16(o.packed.data(), Dtype::fp32, {&packed_rows, 1}, 2, 4);
             o.multiply_by_packed();
         }},
        {"repack", memory, 0,
         [](Operands& o, Backend& b) {
             b.repack(o.packed.data(), Dtype::fp32, o.p(1), 2, 4);
             o.multiply_by_packed();
         }},
        {"linear", forward, product,
         [](Operands& o, Backend& b) { b.linear(o.m(0), o.m(1), o.weight.get(), o.p(2), true); }},
        {"linear_dx", backward, product,
         [](Operands& o, Backend& b) { b.linear_dx(o.m(0), o.m(1), o.weight.get(), true); }},
        {"linear_dw", backward, product,
         [](Operands& o, Backend& b) {
             b.linear_dw(fp32_view(o.square.floats(), width, width), o.p(2), o.m(0), o.m(1));
         }},
        {"lora", forward, 2 * lora_rows * 2 * width,
         [=](Operands& o, Backend& b) {
             const LoraLayer layer{o.m(0), o.rank3(1), o.adapters, 0, 2};
             b.lora({&layer, 1}, o.m(2), o.slots(), dropout(o), o.rotary());
         }},
        {"lora_backward", backward, 2 * lora_rows * 4 * width,
         [=](Operands& o, Backend& b) {
             const LoraLayer layer{o.m(2), o.rank3(3), o.adapters, 0};
             b.lora_backward(o.m(0), o.rank3(1), {&layer, 1}, o.m(8), o.slots(), dropout(o));
         }},
        {"lora_swiglu", forward, 2 * 2 * lora_rows * 2 * width,
         [=](Operands& o, Backend& b) {
             const LoraLayer layers[] = {{o.m(0), o.rank3(1), o.adapters, 0},
                                         {o.m(8), o.rank3(3), o.adapters, 1}};
             b.lora_swiglu(o.m(9), layers, o.m(2), o.slots(), dropout(o));
         }},
        {"lora_swiglu_backward", backward, 2 * lora_rows * 4 * width,
         [=](Operands& o, Backend& b) {
             const LoraLayer layer{o.m(2), o.rank3(3), o.adapters, 0};
             b.lora_swiglu_backward(o.m(9), o.m(10), o.m(0), o.rank3(1), layer, o.m(8), o.m(9),
                                    o.m(10), o.slots(), dropout(o));
         }},
        {"rms_norm", forward, 0,
         [](Operands& o, Backend& b) { b.rms_norm(o.m(0), o.m(1), o.m(2), o.p(3), 1e-5F); }},
        {"rms_norm_backward", backward, 0,
         [](Operands& o, Backend& b) {
             b.rms_norm_backward(o.m(0), o.m(1), o.m(2), o.p(3), 1e-5F);
         }},
        {"head_rms_norm", forward, 0,
         [](Operands& o, Backend& b) { b.head_rms_norm(o.m(0), o.m(1), 2, o.p(3), 1e-5F); }},
        {"head_rms_norm_backward", backward, 0,
         [](Operands& o, Backend& b) {
             b.head_rms_norm_backward(o.m(0), o.m(1), o.m(2), 2, o.p(3), 1e-5F);
         }},
        {"rms_norm_dgain", backward, 0,
         [](Operands& o, Backend& b) {
             b.rms_norm_dgain(o.flat(0).first(width), o.m(1), o.m(2), 1e-5F);
         }},
        {"rope", forward, 0, [](Operands& o, Backend& b) { b.rope(o.m(0), 2, o.rotary(), false); }},
        {"rope_backward", backward, 0,
         [](Operands& o, Backend& b) { b.rope(o.m(0), 2, o.rotary(), true); }},
        {"attention", forward, 0,
         [](Operands& o, Backend& b) {
             b.attention(o.m(0), o.p(1), o.m(2), o.m(3), o.m(4), shape, {o.begin});
         }},
        {"attention_backward", backward, 0,
         [](Operands& o, Backend& b) {
             b.attention_backward(o.m(0), o.m(1), o.m(2), o.m(3), o.m(4), o.p(8), o.m(5), o.m(6),
                                  o.m(7), shape, {o.begin}, o.rotary());
         }},
        {"swiglu", forward, 0, [](Operands& o, Backend& b) { b.swiglu(o.m(0), o.m(1), o.m(2)); }},
        {"swiglu_backward", backward, 0,
         [](Operands& o, Backend& b) {
             b.swiglu_backward(o.m(0), o.m(1), o.m(2), o.m(3), o.m(4));
         }},
        {"embedding", forward, 0,
         [](Operands& o, Backend& b) { b.embedding(o.m(0), o.m(1), o.tokens); }},
        {"embedding_backward", backward, 0,
         [](Operands& o, Backend& b) { b.embedding_backward(o.m(0), o.m(1), o.tokens); }},
        {"cross_entropy", loss, 2 * product,
         [](Operands& o, Backend& b) {
             b.cross_entropy(o.loss, o.m(0), {}, o.m(1), o.weight.get(), o.tokens, o.weights,
                             o.best);
         }},
        {"gather_rows", forward, 0,
         [](Operands& o, Backend& b) {
             b.gather_rows(o.m(0).row_range(0, 3), o.m(1), o.some_rows);
         }},
        {"scatter_add_rows", backward, 0,
         [](Operands& o, Backend& b) {
             b.scatter_add_rows(o.m(0), o.m(1).row_range(0, 3), o.some_rows);
         }},
        {"adamw", optimizer, 0,
         [](Operands& o, Backend& b) {
             b.adamw(o.flat(0), o.flat(1), o.flat(2), o.flat(8),
                     {.lr = 0.1,
                      .beta1 = 0.9,
                      .beta2 = 0.99,
                      .eps = 1e-8,
                      .weight_decay = 0.1,
                      .step = 3});
         }},
        {"sgd", optimizer, 0,
         [](Operands& o, Backend& b) { b.sgd(o.flat(0), o.flat(1), 0.1, 0.2); }},
        {"scale", optimizer, 0, [](Operands& o, Backend& b) { b.scale(o.flat(0), 1.5F); }},
        {"fill", backward, 0, [](Operands& o, Backend& b) { b.fill(o.flat(0), 1.5F); }},
        {"copy", memory, 0, [](Operands& o, Backend& b) { b.copy(o.flat(0), o.flat(1)); }},
        {"squared_norm", optimizer, 0,
         [](Operands& o, Backend& b) { o.loss[0] = b.squared_norm(o.flat(0)); }},
        {"squared_distance", optimizer, 0,
         [](Operands& o, Backend& b) { o.loss[0] = b.squared_distance(o.flat(0), o.flat(1)); }},
        {"accumulate_fixed", optimizer, 0,
         [](Operands& o, Backend& b) {
             o.backend.fill(o.flat(0), 0);
             const std::span<std::uint64_t> words(reinterpret_cast<std::uint64_t*>(o.p(0)), 20);
             b.accumulate_fixed(words, o.flat(1).first(20), o.flat(2).first(20), 0.5);
             // As floats some words would be no numbers.
             for (std::size_t i = 0; i < o.loss.size(); ++i)
                 o.loss[i] = static_cast<double>(words[i]);
             o.backend.fill(o.flat(0), 0);
         }},
    };
}

TEST(TimedBackend, PassesEveryOperationOnAndCountsIt) {
    const auto cpu = make_cpu_backend(1);
    TimedBackend timed(*cpu);
    for (const Call& call : calls()) {
        SCOPED_TRACE(call.name);
        Operands plain(*cpu), through(*cpu);
        call.run(plain, *cpu);
        timed.reset();
        call.run(through, timed);

        EXPECT_EQ(through.results(), plain.results());
        const std::vector<OperationTime> times = timed.times();
        ASSERT_EQ(times.size(), 1U);
        EXPECT_EQ(times[0].name, call.name);
        EXPECT_EQ(times[0].phase, call.phase);
        EXPECT_EQ(times[0].calls, 1);
        EXPECT_GE(times[0].seconds, 0);
        EXPECT_EQ(times[0].flop, call.flop);
    }
}

TEST(TimedBackend, AddsUpCallsAndBeginsAnewAfterReset) {
    const auto cpu = make_cpu_backend(1);
    TimedBackend timed(*cpu);
    EXPECT_TRUE(timed.times().empty());
    Operands o(*cpu);
    timed.fill(o.flat(0), 1);
    timed.fill(o.flat(1), 1);
    timed.scale(o.flat(0), 2);
    const std::vector<OperationTime> times = timed.times();
    ASSERT_EQ(times.size(), 2U);
    EXPECT_EQ(times[0].name, "scale");
    EXPECT_EQ(times[1].name, "fill");
    EXPECT_EQ(times[1].calls, 2);
    timed.reset();
    EXPECT_TRUE(timed.times().empty());
}

TEST(TimedBackend, IsTheSameDevice) {
    const auto cpu = make_cpu_backend(2);
    const TimedBackend timed(*cpu);
    EXPECT_EQ(timed.info().model, cpu->info().model);
    EXPECT_EQ(timed.info().kind, "cpu");
    EXPECT_EQ(timed.activation_dtype(Dtype::bf16), cpu->activation_dtype(Dtype::bf16));
    EXPECT_EQ(timed.packed_bytes(Dtype::fp32, 5, 7), cpu->packed_bytes(Dtype::fp32, 5, 7));
}

}  // namespace
}  // namespace fedit::test
