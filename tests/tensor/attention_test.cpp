// tests/tensor/attention_test.cpp: causal attention of packed sequences, with grouped heads.
#include <numeric>

#include "tests/support/compare.h"

namespace fedit::test {
namespace {

struct Case {
    AttentionShape shape;
    std::vector<std::int64_t> lengths;
    std::int64_t padding = 0;
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    std::string name = "h" + std::to_string(c.shape.heads) + "k" +
                       std::to_string(c.shape.kv_heads) + "d" + std::to_string(c.shape.head_dim);
    if (c.shape.window != 0) name += "w" + std::to_string(c.shape.window);
    for (const std::int64_t length : c.lengths) name += "_" + std::to_string(length);
    return name;
}

/// Operands of a case, and what a back end makes of them.
struct AttentionRun {
    AttentionRun(Backend& backend, const Case& c)
        : AttentionRun(backend, c,
                       std::accumulate(c.lengths.begin(), c.lengths.end(), std::int64_t{0})) {}

    AttentionRun(Backend& backend, const Case& c, std::int64_t tokens)
        : q(random_matrix(tokens, c.shape.heads * c.shape.head_dim, 1)),
          k(random_matrix(tokens, c.shape.kv_heads * c.shape.head_dim, 2)),
          v(random_matrix(tokens, c.shape.kv_heads * c.shape.head_dim, 3)),
          dout(random_matrix(tokens, c.shape.heads * c.shape.head_dim, 4)) {
        begin.push_back(0);
        for (const std::int64_t length : c.lengths) begin.push_back(begin.back() + length);
        const auto device = [&](const Matrix& m) {
            return DeviceMatrix(backend, m, m.cols + c.padding);
        };
        const DeviceMatrix q_(device(q)), k_(device(k)), v_(device(v)), dout_(device(dout));
        const DeviceMatrix out_(device(Matrix(q.rows, q.cols))),
            lse_(backend, Shape{c.shape.heads, tokens});
        const DeviceMatrix dq_(device(Matrix(q.rows, q.cols))), dk_(device(Matrix(k.rows, k.cols))),
            dv_(device(Matrix(v.rows, v.cols)));
        backend.attention(out_.view(), lse_.floats(), q_.view(), k_.view(), v_.view(), c.shape,
                          {begin});
        backend.attention_backward(dq_.view(), dk_.view(), dv_.view(), dout_.view(), out_.view(),
                                   lse_.floats(), q_.view(), k_.view(), v_.view(), c.shape,
                                   {begin});
        out = out_.values(), lse = lse_.values();
        dq = dq_.values(), dk = dk_.values(), dv = dv_.values();
    }

    Matrix q, k, v, dout;
    std::vector<std::int64_t> begin;
    Matrix out, lse, dq, dk, dv;
};

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, AgreesWithDoubleLoops) {
    const auto backend = make_cpu_backend(2);
    const AttentionRun run(*backend, GetParam());
    const AttentionShape& shape = GetParam().shape;
    // exp() of fp32 scores near 10 has 10 times the rounding of its argument.
    constexpr double tolerance = 2e-5;
    const auto want = naive::attention(run.q, run.k, run.v, shape, {run.begin});
    EXPECT_TRUE(close(run.out, want.out, tolerance));
    EXPECT_TRUE(close(run.lse, want.lse, tolerance));
    const auto g = naive::attention_backward(run.dout, run.q, run.k, run.v, shape, {run.begin});
    EXPECT_TRUE(close(run.dq, g.dq, tolerance, 1));
    EXPECT_TRUE(close(run.dk, g.dk, tolerance, 1));
    EXPECT_TRUE(close(run.dv, g.dv, tolerance, 1));
}

TEST_P(Attention, HasTheSameBitsOnOneTwoAndThreeThreads) {
    const auto one = make_cpu_backend(1), two = make_cpu_backend(2), three = make_cpu_backend(3);
    const AttentionRun first(*one, GetParam());
    for (Backend* backend : {two.get(), three.get()}) {
        const AttentionRun run(*backend, GetParam());
        EXPECT_TRUE(same_bits(run.out, first.out));
        EXPECT_TRUE(same_bits(run.lse, first.lse));
        EXPECT_TRUE(same_bits(run.dq, first.dq));
        EXPECT_TRUE(same_bits(run.dk, first.dk));
        EXPECT_TRUE(same_bits(run.dv, first.dv));
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         testing::Values(Case{{1, 1, 8}, {1}}, Case{{2, 2, 64}, {7, 1, 0, 64}},
                                         Case{{2, 1, 16}, {33, 130}, 5},
                                         Case{{4, 2, 80}, {65, 48}, 3}, Case{{2, 2, 128}, {100}},
                                         Case{{3, 1, 12}, {49, 97}}, Case{{1, 1, 256}, {70}},
                                         Case{{1, 1, 64}, {400}}, Case{{2, 1, 10}, {200}, 1},
                                         Case{{1, 1, 8, 1}, {60}}, Case{{2, 1, 16, 8}, {23, 1, 64}},
                                         Case{{2, 2, 20, 100}, {450}, 2},
                                         Case{{1, 1, 64, 128}, {300}}, Case{{4, 2, 10, 129}, {400}},
                                         Case{{1, 1, 16, 500}, {333}}),
                         case_name);

/// Keys and values of a longer sequence that a cache holds, with rows of others around them.
class Cache : public testing::TestWithParam<AttentionShape> {};

TEST_P(Cache, QueriesAreTheLastOfTheirKeys) {
    const AttentionShape& shape = GetParam();
    const auto backend = make_cpu_backend(2);
    const std::int64_t q_cols = shape.heads * shape.head_dim,
                       kv_cols = shape.kv_heads * shape.head_dim;
    const std::vector<std::int64_t> begin{0, 1, 1, 51, 53}, kv_begin{400, 390, 3, 110},
        kv_end{700, 390, 60, 380};
    const Matrix q = random_matrix(53, q_cols, 1), k = random_matrix(710, kv_cols, 2),
                 v = random_matrix(710, kv_cols, 3);
    const DeviceMatrix q_(*backend, q), k_(*backend, k, kv_cols + 3), v_(*backend, v, kv_cols + 3),
        out(*backend, Shape{53, q_cols}), lse(*backend, Shape{shape.heads, 53});
    const Sequences sequences{begin, kv_begin, kv_end};
    backend->attention(out.view(), lse.floats(), q_.view(), k_.view(), v_.view(), shape, sequences);
    const auto want = naive::attention(q, k, v, shape, sequences);
    EXPECT_TRUE(close(out.values(), want.out, 2e-5));
    EXPECT_TRUE(close(lse.values(), want.lse, 2e-5));
}

TEST_P(Cache, AQueryHasTheSameBitsAsInAPassOverItsWholeSequence) {
    const AttentionShape& shape = GetParam();
    const auto backend = make_cpu_backend(2);
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

INSTANTIATE_TEST_SUITE_P(Shapes, Cache,
                         testing::Values(AttentionShape{1, 1, 64}, AttentionShape{4, 2, 10},
                                         AttentionShape{2, 1, 16, 8},
                                         AttentionShape{2, 2, 12, 130}),
                         [](const auto& test) {
                             return "h" + std::to_string(test.param.heads) + "d" +
                                    std::to_string(test.param.head_dim) + "w" +
                                    std::to_string(test.param.window);
                         });

TEST(AttentionPacking, ASequenceHasTheSameBitsAloneAndInCompany) {
    const AttentionShape shape{.heads = 4, .kv_heads = 2, .head_dim = 16};
    const auto backend = make_cpu_backend(2);
    const AttentionRun packed(*backend, {shape, {50, 131, 20}});
    const std::int64_t first = 50, count = 131;

    const auto part = [&](const Matrix& m) { return rows_of(m, first, count); };
    const DeviceMatrix q(*backend, part(packed.q)), k(*backend, part(packed.k)),
        v(*backend, part(packed.v)), dout(*backend, part(packed.dout)),
        out(*backend, Shape{count, 64}), lse(*backend, Shape{4, count}),
        dq(*backend, Shape{count, 64}), dk(*backend, Shape{count, 32}),
        dv(*backend, Shape{count, 32});
    const std::vector<std::int64_t> begin{0, count};
    backend->attention(out.view(), lse.floats(), q.view(), k.view(), v.view(), shape, {begin});
    backend->attention_backward(dq.view(), dk.view(), dv.view(), dout.view(), out.view(),
                                lse.floats(), q.view(), k.view(), v.view(), shape, {begin});
    EXPECT_TRUE(same_bits(out.values(), part(packed.out)));
    EXPECT_TRUE(same_bits(dq.values(), part(packed.dq)));
    EXPECT_TRUE(same_bits(dk.values(), part(packed.dk)));
    EXPECT_TRUE(same_bits(dv.values(), part(packed.dv)));
}

TEST(AttentionRange, LargeScoresDoNotOverflow) {
    const AttentionShape shape{.heads = 1, .kv_heads = 1, .head_dim = 8};
    const auto backend = make_cpu_backend(1);
    const std::int64_t tokens = 90;
    const Matrix q = random_matrix(tokens, 8, 1, 100), k = random_matrix(tokens, 8, 2, 100),
                 v = random_matrix(tokens, 8, 3);
    const DeviceMatrix q_(*backend, q), k_(*backend, k), v_(*backend, v),
        out(*backend, Shape{tokens, 8}), lse(*backend, Shape{1, tokens});
    const std::vector<std::int64_t> begin{0, tokens};
    backend->attention(out.view(), lse.floats(), q_.view(), k_.view(), v_.view(), shape, {begin});
    // Scores near 1e5 round by 1e-2, which is the relative error of exp of their differences.
    EXPECT_TRUE(close(out.values(), naive::attention(q, k, v, shape, {begin}).out, 2e-2));
}

}  // namespace
}  // namespace fedit::test
