// tests/tensor/attention_test.cpp: causal attention of packed sequences, with grouped heads.
#include <numeric>

#include "tests/support/on_every_backend.h"
#include "tests/tensor/cpu_products.h"

namespace fedit::test {
namespace {

struct Case {
    AttentionShape shape;
    std::vector<std::int64_t> lengths;
    std::int64_t padding = 0;
};

std::string case_name(const Case& c) {
    std::string name = "h" + std::to_string(c.shape.heads) + "k" +
                       std::to_string(c.shape.kv_heads) + "d" + std::to_string(c.shape.head_dim);
    if (c.shape.window != 0) name += "w" + std::to_string(c.shape.window);
    for (const std::int64_t length : c.lengths) name += "_" + std::to_string(length);
    return name;
}

/// Whether dq and dk are those of q and k before they were rotated.
enum class Turned { no, back };

/// Operands of a case, and what a back end makes of them.
struct AttentionRun {
    AttentionRun(Backend& backend, const Case& c, Dtype dtype = Dtype::fp32,
                 Turned turned = Turned::no)
        : AttentionRun(backend, c, dtype, turned,
                       std::accumulate(c.lengths.begin(), c.lengths.end(), std::int64_t{0})) {}

    AttentionRun(Backend& backend, const Case& c, Dtype dtype, Turned turned, std::int64_t tokens)
        : q(stored(random_matrix(tokens, c.shape.heads * c.shape.head_dim, 1), dtype)),
          k(stored(random_matrix(tokens, c.shape.kv_heads * c.shape.head_dim, 2), dtype)),
          v(stored(random_matrix(tokens, c.shape.kv_heads * c.shape.head_dim, 3), dtype)),
          dout(stored(random_matrix(tokens, c.shape.heads * c.shape.head_dim, 4), dtype)) {
        begin.push_back(0);
        for (const std::int64_t length : c.lengths) begin.push_back(begin.back() + length);
        positions = rotary_positions(begin, 7);
        inv_freq = rotary_frequencies(c.shape.head_dim);
        const auto device = [&](const Matrix& m) {
            return DeviceMatrix(backend, m, m.cols + c.padding, dtype);
        };
        const DeviceMatrix q_(device(q)), k_(device(k)), v_(device(v)), dout_(device(dout));
        const DeviceMatrix out_(device(Matrix(q.rows, q.cols))),
            lse_(backend, Shape{c.shape.heads, tokens});
        const DeviceMatrix dq_(device(Matrix(q.rows, q.cols))), dk_(device(Matrix(k.rows, k.cols))),
            dv_(device(Matrix(v.rows, v.cols)));
        backend.attention(out_.view(), lse_.floats(), q_.view(), k_.view(), v_.view(), c.shape,
                          {begin});
        backend.attention_backward(dq_.view(), dk_.view(), dv_.view(), dout_.view(), out_.view(),
                                   lse_.floats(), q_.view(), k_.view(), v_.view(), c.shape, {begin},
                                   turned == Turned::back ? rotary() : Rotary{});
        out = out_.values(), lse = lse_.values();
        dq = dq_.values(), dk = dk_.values(), dv = dv_.values();
    }

    Rotary rotary() const { return {positions, inv_freq, 1.25F}; }
    /// A gradient turned back by double loops.
    Matrix turned_back(const Matrix& x, std::int64_t heads) const {
        return naive::rope(x, heads, positions, inv_freq, 1.25, -1);
    }

    Matrix q, k, v, dout;
    std::vector<std::int64_t> begin;
    std::vector<std::int32_t> positions;
    std::vector<float> inv_freq;
    Matrix out, lse, dq, dk, dv;
};

class Attention : public OnEveryBackend<Case> {
protected:
    /// exp() of fp32 scores near 10 has 10 times the rounding of its argument. In bf16 weights and
    /// results are rounded.
    double attention_tolerance() const { return tolerance(2e-5, 1e-2); }
};

void expect_double_loops(const AttentionRun& run, const AttentionShape& shape, double tolerance) {
    const auto want = naive::attention(run.q, run.k, run.v, shape, {run.begin});
    EXPECT_TRUE(close(run.out, want.out, tolerance));
    EXPECT_TRUE(close(run.lse, want.lse, tolerance));
    const auto g = naive::attention_backward(run.dout, run.q, run.k, run.v, shape, {run.begin});
    EXPECT_TRUE(close(run.dq, g.dq, tolerance, 1));
    EXPECT_TRUE(close(run.dk, g.dk, tolerance, 1));
    EXPECT_TRUE(close(run.dv, g.dv, tolerance, 1));
}

TEST_P(Attention, AgreesWithDoubleLoops) {
    expect_double_loops(AttentionRun(backend(), test_case(), dtype()), test_case().shape,
                        attention_tolerance());
}

void expect_same_bits(const AttentionRun& got, const AttentionRun& want) {
    EXPECT_TRUE(same_bits(got.out, want.out));
    EXPECT_TRUE(same_bits(got.lse, want.lse));
    EXPECT_TRUE(same_bits(got.dq, want.dq));
    EXPECT_TRUE(same_bits(got.dk, want.dk));
    EXPECT_TRUE(same_bits(got.dv, want.dv));
}

TEST_P(Attention, HasTheSameBitsAgain) {
    const AttentionRun first(backend(), test_case(), dtype());
    const AttentionRun again(backend(), test_case(), dtype());
    expect_same_bits(again, first);
}

class CpuAttention : public OnCpuProducts<Case> {
protected:
    AttentionRun run_on(int threads) const { return run(products(), test_case(), threads); }

public:
    static AttentionRun run(CpuProducts products, Case c, int threads) {
        c.shape.products = dtype_of(products);
        return {*cpu_backend_with(products, threads), c};
    }
};

TEST_P(CpuAttention, HasTheSameBitsOnOneTwoAndThreeThreads) {
    const AttentionRun first = run_on(1);
    for (const int threads : {2, 3}) {
        SCOPED_TRACE(std::to_string(threads) + " threads");
        expect_same_bits(run_on(threads), first);
    }
}

TEST_P(CpuAttention, AgreesWithDoubleLoops) {
    expect_double_loops(run_on(2), test_case().shape,
                        dtype_of(products()) == Dtype::fp32 ? 2e-5 : 1e-2);
}

class CpuAttentionInBf16 : public testing::TestWithParam<Case> {};

TEST_P(CpuAttentionInBf16, HasTheBitsOfItsEmulation) {
    if (!has_bf16_instructions()) GTEST_SKIP() << "this CPU has no bf16 instructions";
    expect_same_bits(CpuAttention::run(CpuProducts::bf16, GetParam(), 2),
                     CpuAttention::run(CpuProducts::emulated_bf16, GetParam(), 2));
}

const std::initializer_list<Case> cases{
    {{1, 1, 8}, {1}},
    {{2, 2, 64}, {7, 1, 0, 64}},
    {{2, 1, 16}, {33, 130}, 5},
    {{4, 2, 80}, {65, 48}, 3},
    {{2, 2, 128}, {100}},
    {{3, 1, 12}, {49, 97}},
    {{1, 1, 256}, {70}},
    {{1, 1, 64}, {400}},
    {{2, 1, 10}, {200}, 1},
    {{1, 1, 8, 1}, {60}},
    {{2, 1, 16, 8}, {23, 1, 64}},
    {{2, 2, 20, 100}, {450}, 2},
    {{1, 1, 64, 128}, {300}},
    {{4, 2, 10, 129}, {400}},
    {{1, 1, 16, 500}, {333}},
    {{8, 1, 64}, {63, 129, 1}, 8},
};
INSTANTIATE_TEST_SUITE_P(Shapes, Attention, on_every_backend(cases), named_by(case_name));
INSTANTIATE_TEST_SUITE_P(Shapes, CpuAttention, on_cpu_products(cases),
                         named_by_products(case_name));
INSTANTIATE_TEST_SUITE_P(Shapes, CpuAttentionInBf16, testing::ValuesIn(cases),
                         [](const auto& test) { return case_name(test.param); });

class TurnedAttention : public Attention {};

TEST_P(TurnedAttention, AgreesWithDoubleLoops) {
    const AttentionRun run(backend(), test_case(), dtype(), Turned::back);
    const AttentionShape& shape = test_case().shape;
    const double tolerance = attention_tolerance();
    const auto g = naive::attention_backward(run.dout, run.q, run.k, run.v, shape, {run.begin});
    EXPECT_TRUE(close(run.dq, run.turned_back(g.dq, shape.heads), tolerance, 1));
    EXPECT_TRUE(close(run.dk, run.turned_back(g.dk, shape.kv_heads), tolerance, 1));
    EXPECT_TRUE(close(run.dv, g.dv, tolerance, 1));
}

class CpuTurnedAttention : public testing::TestWithParam<Case> {};

TEST_P(CpuTurnedAttention, HasTheBitsOfTwoOperations) {
    const auto backend = make_cpu_backend(2);
    const AttentionShape& shape = GetParam().shape;
    const AttentionRun once(*backend, GetParam(), Dtype::fp32, Turned::back);
    const AttentionRun twice(*backend, GetParam());
    const DeviceMatrix dq(*backend, twice.dq), dk(*backend, twice.dk);
    backend->rope(dq.view(), shape.heads, twice.rotary(), true);
    backend->rope(dk.view(), shape.kv_heads, twice.rotary(), true);
    EXPECT_TRUE(same_bits(once.dq, dq.values()));
    EXPECT_TRUE(same_bits(once.dk, dk.values()));
    EXPECT_TRUE(same_bits(once.dv, twice.dv));
}

const std::initializer_list<Case> turned_cases{
    {{1, 1, 16}, {1}},       {{4, 2, 16}, {33, 40}, 5}, {{2, 1, 32}, {3, 0, 65}},
    {{4, 1, 64}, {70, 129}}, {{2, 2, 64, 50}, {150}},   {{4, 2, 80}, {65, 48}, 3},
    {{4, 2, 128}, {131, 7}}, {{2, 1, 256}, {50, 21}},
};
INSTANTIATE_TEST_SUITE_P(Shapes, TurnedAttention, on_every_backend(turned_cases),
                         named_by(case_name));
INSTANTIATE_TEST_SUITE_P(Shapes, CpuTurnedAttention, testing::ValuesIn(turned_cases),
                         [](const auto& test) { return case_name(test.param); });

/// Keys and values of a longer sequence that a cache holds, with rows of others around them.
class Cache : public OnEveryBackend<AttentionShape> {};

TEST_P(Cache, QueriesAreTheLastOfTheirKeys) {
    const AttentionShape& shape = test_case();
    const std::int64_t q_cols = shape.heads * shape.head_dim,
                       kv_cols = shape.kv_heads * shape.head_dim;
    const std::vector<std::int64_t> begin{0, 1, 1, 51, 53}, kv_begin{400, 390, 3, 110},
        kv_end{700, 390, 60, 380};
    const Matrix q = random(53, q_cols, 1), k = random(710, kv_cols, 2),
                 v = random(710, kv_cols, 3);
    const DeviceMatrix q_ = activations(q), k_ = activations(k, kv_cols + 3),
                       v_ = activations(v, kv_cols + 3), out = results({53, q_cols}),
                       lse(backend(), Shape{shape.heads, 53});
    const Sequences sequences{begin, kv_begin, kv_end};
    backend().attention(out.view(), lse.floats(), q_.view(), k_.view(), v_.view(), shape,
                        sequences);
    const auto want = naive::attention(q, k, v, shape, sequences);
    EXPECT_TRUE(close(out.values(), want.out, tolerance(2e-5, 1e-2)));
    EXPECT_TRUE(close(lse.values(), want.lse, tolerance(2e-5, 1e-2)));
}

/// A GPU's kernel cuts keys into tiles from a query's first, which differs between the passes.
class CpuCache : public OnCpuProducts<AttentionShape> {};

TEST_P(CpuCache, AQueryHasTheSameBitsAsInAPassOverItsWholeSequence) {
    AttentionShape shape = test_case();
    shape.products = dtype_of(products());
    const auto backend = cpu_backend_with(products(), 2);
    const std::int64_t tokens = 310;
    const AttentionRun whole(*backend, {shape, {tokens}});
    const DeviceMatrix k(*backend, whole.k), v(*backend, whole.v);
    for (const std::int64_t first : {0, 1, 5, 127, 128, 200, 309}) {
        for (const std::int64_t count : {std::int64_t{1}, std::int64_t{7}, tokens - first}) {
            if (first + count > tokens) continue;
            const DeviceMatrix q(*backend, rows_of(whole.q, first, count)),
                out(*backend, Shape{count, whole.q.cols}), lse(*backend, Shape{shape.heads, count});
            const std::vector<std::int64_t> begin{0, count}, kv_begin{0}, kv_end{first + count};
            backend->attention(out.view(), lse.floats(), q.view(), k.view(), v.view(), shape,
                               {begin, kv_begin, kv_end});
            EXPECT_TRUE(same_bits(out.values(), rows_of(whole.out, first, count)))
                << count << " queries from " << first;
        }
    }
}

const std::initializer_list<AttentionShape> cache_shapes{
    {1, 1, 64}, {2, 1, 128}, {4, 2, 10}, {2, 1, 16, 8}, {2, 2, 12, 130}};
std::string shape_of_heads(const AttentionShape& shape) {
    return "h" + std::to_string(shape.heads) + "d" + std::to_string(shape.head_dim) + "w" +
           std::to_string(shape.window);
}
INSTANTIATE_TEST_SUITE_P(Shapes, Cache, on_every_backend(cache_shapes), named_by(shape_of_heads));
INSTANTIATE_TEST_SUITE_P(Shapes, CpuCache, on_cpu_products(cache_shapes),
                         named_by_products(shape_of_heads));

struct Once {};
class OneAttention : public OnEveryBackend<Once> {};

TEST_P(OneAttention, ASequenceHasTheSameBitsAloneAndInCompany) {
    const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 16};
    const AttentionRun packed(backend(), {shape, {50, 131, 20}}, dtype(), Turned::back);
    const std::int64_t first = 50, count = 131;

    const auto part = [&](const Matrix& m) { return rows_of(m, first, count); };
    const DeviceMatrix q = activations(part(packed.q)), k = activations(part(packed.k)),
                       v = activations(part(packed.v)), dout = activations(part(packed.dout)),
                       out = results({count, 64}), lse(backend(), Shape{4, count}),
                       dq = results({count, 64}), dk = results({count, 32}),
                       dv = results({count, 32});
    const std::vector<std::int64_t> begin{0, count};
    const std::vector<std::int32_t> positions = rotary_positions(begin, 7);
    backend().attention(out.view(), lse.floats(), q.view(), k.view(), v.view(), shape, {begin});
    backend().attention_backward(dq.view(), dk.view(), dv.view(), dout.view(), out.view(),
                                 lse.floats(), q.view(), k.view(), v.view(), shape, {begin},
                                 {positions, packed.inv_freq, 1.25F});
    EXPECT_TRUE(same_bits(out.values(), part(packed.out)));
    EXPECT_TRUE(same_bits(dq.values(), part(packed.dq)));
    EXPECT_TRUE(same_bits(dk.values(), part(packed.dk)));
    EXPECT_TRUE(same_bits(dv.values(), part(packed.dv)));
}

TEST_P(OneAttention, LargeScoresDoNotOverflow) {
    const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
    const std::int64_t tokens = 90;
    const Matrix q = random(tokens, 8, 1, 100), k = random(tokens, 8, 2, 100),
                 v = random(tokens, 8, 3);
    const DeviceMatrix q_ = activations(q), k_ = activations(k), v_ = activations(v),
                       out = results({tokens, 8}), lse(backend(), Shape{1, tokens});
    const std::vector<std::int64_t> begin{0, tokens};
    backend().attention(out.view(), lse.floats(), q_.view(), k_.view(), v_.view(), shape, {begin});
    // Scores near 1e5 round by 1e-2, which is the relative error of exp of their differences.
    EXPECT_TRUE(close(out.values(), naive::attention(q, k, v, shape, {begin}).out, 2e-2));
}

INSTANTIATE_TEST_SUITE_P(BackEnds, OneAttention, on_every_backend({Once{}}),
                         named_by([](const Once&) { return std::string("once"); }));

}  // namespace
}  // namespace fedit::test
