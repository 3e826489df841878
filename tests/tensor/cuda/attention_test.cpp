// tests/tensor/cuda/attention_test.cpp: the kernels of attention against double loops: packed
// sequences around a tile's size, grouped heads, windows, longer keys, heads of many widths.
#include "tests/tensor/cuda/attention_twin.h"

#include "tensor/rope_table.h"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

using emulate::Launch;

struct Case {
    const char* name;
    Dtype dtype;
    AttentionShape shape;
    std::vector<std::int64_t> lengths;
    std::vector<std::int64_t> cached{};  ///< keys before a sequence's own; empty: none anywhere
};

/// The root of the sum of squared differences, relative to that of `want`; to the inputs, which are
/// about 1, where nothing is left of `want`. NaN fails.
testing::AssertionResult near(const Matrix& got, const Matrix& want, Dtype dtype) {
    auto [error, norm] = deviation(got, want);
    if (norm == 0) norm = std::sqrt(static_cast<double>(want.values.size()));
    error /= norm;
    const double allowed = dtype == Dtype::fp32 ? 1e-6 : 6e-3;
    if (error <= allowed) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "relative error " << error << ", allowed " << allowed;
}

/// Whether dq and dk are those of q and k before they were rotated.
enum class Turned { no, back };

/// The operands of one case. Queries, keys and values are columns of one fused row where keys are
/// the queries' rows; keys and values of a cache are matrices of their own with unused rows.
class Operands {
public:
    explicit Operands(const Case& c, By by = By::warps) : case_(c), by_(by) {
        std::int64_t rows = 0, key_rows = 0;
        for (std::size_t i = 0; i < c.lengths.size(); ++i) {
            begin_.push_back(rows);
            rows += c.lengths[i];
            if (c.cached.empty()) continue;
            kv_begin_.push_back(key_rows + 2);
            key_rows += c.cached[i] + c.lengths[i] + 2;
            kv_end_.push_back(key_rows);
        }
        begin_.push_back(rows);
        if (c.cached.empty()) key_rows = rows;
        const std::int64_t d = c.shape.head_dim;
        positions_ = rotary_positions(begin_, 7);
        inv_freq_ = rotary_frequencies(d);
        table_.cover(7 + rows, inv_freq_, attention_scale);
        q_ = random(rows, c.shape.heads * d, 1);
        k_ = random(key_rows, c.shape.kv_heads * d, 2);
        v_ = random(key_rows, c.shape.kv_heads * d, 3);
        dout_ = random(rows, c.shape.heads * d, 4);
    }

    Sequences sequences() const {
        return {.begin = begin_, .kv_begin = kv_begin_, .kv_end = kv_end_};
    }
    cuda::DeviceSequences device_sequences() const {
        const bool own = kv_begin_.empty();
        return {.count = static_cast<std::int64_t>(case_.lengths.size()),
                .begin = begin_.data(),
                .kv_begin = own ? nullptr : kv_begin_.data(),
                .kv_end = own ? nullptr : kv_end_.data()};
    }

    /// out, lse.
    std::vector<Matrix> forward(const Launch& launch) const {
        HostMatrix q(q_, case_.dtype), k(k_, case_.dtype), v(v_, case_.dtype),
            out(poisoned(q_.rows, q_.cols), case_.dtype, q_.cols + 8), lse(no_lse(), Dtype::fp32);
        cuda::launch_attention(launch, Tiles(launch, by_), out.view(), lse.floats(), q.view(),
                               k.view(), v.view(), case_.shape, device_sequences());
        return {out.values(), lse.values()};
    }

    /// dq, dk, dv in fused rows, from q, k, v in such rows.
    template <class AnyLaunch>
    std::vector<Matrix> backward(const AnyLaunch& launch, Turned turned = Turned::no) const {
        HostMatrix qkv(fused(), case_.dtype), dqkv(poisoned(q_.rows, fused().cols), case_.dtype),
            dout(dout_, case_.dtype), out(poisoned(q_.rows, q_.cols), case_.dtype),
            lse(no_lse(), Dtype::fp32), delta(no_lse(), Dtype::fp32);
        const cuda::AttentionViews views{.q = q_of(qkv),
                                         .k = k_of(qkv),
                                         .v = v_of(qkv),
                                         .out = out.view(),
                                         .dout = dout.view(),
                                         .dq = q_of(dqkv),
                                         .dk = k_of(dqkv),
                                         .dv = v_of(dqkv)};
        const Tiles tiles(launch, by_);
        cuda::launch_attention(launch, tiles, out.view(), lse.floats(), views.q, views.k, views.v,
                               case_.shape, device_sequences());
        const cuda::DeviceRotary rotary{.positions = positions_.data(),
                                        .table = table_.values().data()};
        cuda::launch_attention_backward(launch, tiles, views, lse.floats(), delta.floats(),
                                        case_.shape, device_sequences(),
                                        turned == Turned::back ? rotary : cuda::DeviceRotary{});
        return {dqkv.values()};
    }

    void expect_forward(const std::vector<Matrix>& got) const {
        const auto want = naive::attention(q_, k_, v_, case_.shape, sequences());
        EXPECT_TRUE(near(got[0], want.out, case_.dtype));
        EXPECT_TRUE(near(got[1], want.lse, case_.dtype));
    }
    void expect_backward(const std::vector<Matrix>& got, Turned turned = Turned::no) const {
        auto want = naive::attention_backward(dout_, q_, k_, v_, case_.shape, sequences());
        if (turned == Turned::back) {
            want.dq = turned_back(want.dq, case_.shape.heads);
            want.dk = turned_back(want.dk, case_.shape.kv_heads);
        }
        const Matrix columns = transpose(got[0]);
        EXPECT_TRUE(near(transpose(rows_of(columns, 0, q_.cols)), want.dq, case_.dtype));
        EXPECT_TRUE(near(transpose(rows_of(columns, q_.cols, k_.cols)), want.dk, case_.dtype));
        EXPECT_TRUE(
            near(transpose(rows_of(columns, q_.cols + k_.cols, k_.cols)), want.dv, case_.dtype));
    }

private:
    Matrix random(std::int64_t rows, std::int64_t cols, std::uint32_t client) const {
        return rounded_to(case_.dtype, random_matrix(rows, cols, client));
    }
    Matrix turned_back(const Matrix& x, std::int64_t heads) const {
        return naive::rope(x, heads, positions_, inv_freq_, attention_scale, -1);
    }
    Matrix no_lse() const { return poisoned(case_.shape.heads, q_.rows); }
    Matrix fused() const {
        Matrix all(q_.rows, q_.cols + 2 * k_.cols);
        for (std::int64_t t = 0; t < q_.rows; ++t) {
            for (std::int64_t j = 0; j < q_.cols; ++j) all(t, j) = q_(t, j);
            for (std::int64_t j = 0; j < k_.cols; ++j) {
                all(t, q_.cols + j) = k_(t, j);
                all(t, q_.cols + k_.cols + j) = v_(t, j);
            }
        }
        return all;
    }
    TensorView q_of(HostMatrix& m) const { return m.view().columns(0, q_.cols); }
    TensorView k_of(HostMatrix& m) const { return m.view().columns(q_.cols, k_.cols); }
    TensorView v_of(HostMatrix& m) const { return m.view().columns(q_.cols + k_.cols, k_.cols); }

    static constexpr float attention_scale = 1.25F;

    Case case_;
    By by_;
    std::vector<std::int64_t> begin_, kv_begin_, kv_end_;
    std::vector<std::int32_t> positions_;
    std::vector<float> inv_freq_;
    RopeTable table_;
    Matrix q_, k_, v_, dout_;
};

std::string case_name(const testing::TestParamInfo<Case>& test) {
    return test.param.name;
}

/// The products that cards may choose between for a case.
std::vector<By> kinds_of(const Case& c) {
    if (c.dtype == Dtype::fp32 || c.shape.head_dim > cuda::ByGroups::widest) return {By::warps};
    return {By::warps, By::groups};
}

class AttentionTwin : public testing::TestWithParam<Case> {};

TEST_P(AttentionTwin, ForwardAgreesWithDoubleLoops) {
    for (const By by : kinds_of(GetParam())) {
        const Operands operands(GetParam(), by);
        operands.expect_forward(
            run_twin([&](const Launch& launch) { return operands.forward(launch); }));
    }
}

TEST_P(AttentionTwin, BackwardAgreesWithDoubleLoops) {
    for (const By by : kinds_of(GetParam())) {
        const Operands operands(GetParam(), by);
        operands.expect_backward(
            run_twin([&](const Launch& launch) { return operands.backward(launch); }));
    }
}

constexpr AttentionShape shape(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                               std::int64_t window = 0) {
    return {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .window = window};
}

INSTANTIATE_TEST_SUITE_P(
    Cases, AttentionTwin,
    testing::Values(Case{"one_token", Dtype::bf16, shape(1, 1, 64), {1}},
                    Case{"around_a_tile", Dtype::bf16, shape(1, 1, 64), {63, 64, 65, 1}},
                    Case{"around_two_tiles", Dtype::bf16, shape(1, 1, 64), {127, 0, 129}},
                    Case{"four_heads_a_group", Dtype::bf16, shape(4, 1, 64), {3, 70}},
                    Case{"eight_heads_a_group", Dtype::bf16, shape(8, 1, 64), {33}},
                    Case{"two_groups", Dtype::bf16, shape(4, 2, 64), {20, 40}},
                    Case{"window_below_a_tile", Dtype::bf16, shape(2, 1, 64, 20), {150}},
                    Case{"window_of_a_tile", Dtype::bf16, shape(1, 1, 64, 64), {30, 140}},
                    Case{"window_above_a_tile", Dtype::bf16, shape(1, 1, 64, 97), {200}},
                    Case{"window_of_one", Dtype::bf16, shape(1, 1, 64, 1), {70}},
                    Case{"narrow_head", Dtype::bf16, shape(2, 1, 8), {9, 66}},
                    Case{"padded_head", Dtype::bf16, shape(2, 2, 40), {70}},
                    Case{"head_of_80", Dtype::bf16, shape(1, 1, 80), {66}},
                    Case{"head_of_128", Dtype::bf16, shape(2, 1, 128), {65, 3}},
                    Case{"head_of_256", Dtype::bf16, shape(2, 1, 256), {70}},
                    Case{"head_of_200", Dtype::bf16, shape(1, 1, 200), {34}},
                    Case{"odd_head_in_bf16", Dtype::bf16, shape(2, 1, 9), {5, 33}},
                    Case{"fp32", Dtype::fp32, shape(2, 1, 16), {1, 31, 0, 33}},
                    Case{"fp32_window", Dtype::fp32, shape(2, 1, 12, 7), {50, 3}},
                    Case{"fp32_wide_window", Dtype::fp32, shape(1, 1, 33, 40), {90}},
                    Case{"fp32_wide_head", Dtype::fp32, shape(1, 1, 256), {40}}),
    case_name);

class TurnedAttentionTwin : public testing::TestWithParam<Case> {};

TEST_P(TurnedAttentionTwin, AgreesWithDoubleLoops) {
    for (const By by : kinds_of(GetParam())) {
        const Operands operands(GetParam(), by);
        operands.expect_backward(
            run_twin([&](const Launch& launch) { return operands.backward(launch, Turned::back); }),
            Turned::back);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TurnedAttentionTwin,
    testing::Values(Case{"head_of_10", Dtype::bf16, shape(2, 1, 10), {5, 33}},
                    Case{"head_of_16", Dtype::bf16, shape(4, 2, 16), {20, 40}},
                    Case{"head_of_32", Dtype::bf16, shape(2, 1, 32), {66}},
                    Case{"head_of_64", Dtype::bf16, shape(4, 2, 64), {70, 0, 35}},
                    Case{"window", Dtype::bf16, shape(2, 1, 64, 20), {150}},
                    Case{"head_of_80", Dtype::bf16, shape(2, 1, 80), {30, 36}},
                    Case{"head_of_128", Dtype::bf16, shape(4, 2, 128), {65, 3}},
                    Case{"two_tiles", Dtype::bf16, shape(1, 1, 128), {9, 130}},
                    Case{"head_of_256", Dtype::bf16, shape(2, 1, 256), {40, 5}},
                    Case{"fp32_16", Dtype::fp32, shape(2, 1, 16), {1, 31, 0, 33}},
                    Case{"fp32_64", Dtype::fp32, shape(2, 1, 64), {20, 33}}),
    case_name);

class AttentionCacheTwin : public testing::TestWithParam<Case> {};

TEST_P(AttentionCacheTwin, AgreesWithDoubleLoops) {
    for (const By by : kinds_of(GetParam())) {
        const Operands operands(GetParam(), by);
        operands.expect_forward(
            run_twin([&](const Launch& launch) { return operands.forward(launch); }));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, AttentionCacheTwin,
    testing::Values(Case{"one_more_token", Dtype::bf16, shape(4, 2, 64), {1, 1, 1}, {0, 63, 130}},
                    Case{"more_tokens", Dtype::bf16, shape(1, 1, 64), {40, 70}, {30, 0}},
                    Case{"window", Dtype::bf16, shape(1, 1, 64, 50), {1, 20}, {140, 90}},
                    Case{"fp32", Dtype::fp32, shape(4, 2, 16), {1, 1, 5}, {0, 63, 130}},
                    Case{"fp32_window", Dtype::fp32, shape(2, 1, 16, 40), {1, 7}, {100, 33}}),
    case_name);

TEST(AttentionTwins, ASequenceHasItsBitsAloneAndInCompany) {
    struct Kind {
        Dtype dtype;
        By by;
    };
    for (const auto [dtype, by] : {Kind{Dtype::bf16, By::warps}, Kind{Dtype::bf16, By::groups},
                                   Kind{Dtype::fp32, By::warps}}) {
        // The first sequence of both has the same random values.
        const Operands alone({"alone", dtype, shape(2, 1, 64), {70}}, by);
        const Operands company({"company", dtype, shape(2, 1, 64), {70, 5, 64}}, by);
        const Launch launch({});
        for (const Turned turned : {Turned::no, Turned::back}) {
            const Matrix in_company = company.backward(launch, turned)[0];
            EXPECT_TRUE(same_bits(alone.backward(launch, turned)[0], rows_of(in_company, 0, 70)));
        }
    }
}

TEST(AttentionTwins, TurnHeadsThatFillATileWhereTheyAreWritten) {
    const auto launches = [](Dtype dtype, std::int64_t head_dim) {
        int count = 0;
        Operands({"", dtype, shape(2, 1, head_dim), {3}})
            .backward([&](const auto&...) { ++count; }, Turned::back);
        return count;
    };
    constexpr int passes = 4, turns = 2;  // forward, delta, dq, dk with dv; dq, dk
    EXPECT_EQ(launches(Dtype::bf16, 64), passes);
    EXPECT_EQ(launches(Dtype::bf16, 128), passes);
    EXPECT_EQ(launches(Dtype::bf16, 80), passes + turns);
    EXPECT_EQ(launches(Dtype::bf16, 256), passes + turns);
    EXPECT_EQ(launches(Dtype::fp32, 64), passes + turns);
}

TEST(AttentionTwins, RefuseHeadsWiderThanTheirRegisters) {
    const Operands operands({"wide", Dtype::fp32, shape(1, 1, 264), {2}});
    try {
        operands.forward(Launch({}));
        FAIL() << "a head of 264 columns was accepted";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("264"), std::string::npos);
    }
}

TEST(AttentionBarriers, AreAllNeeded) {
    for (const By by : {By::warps, By::groups}) {
        const Operands forward({"forward", Dtype::bf16, shape(1, 1, 64), {200}}, by);
        EXPECT_TRUE(every_barrier_matters("attention_forward.cuh", [&](const Launch& launch) {
            return forward.forward(launch);
        }));
        // Wide heads have one stage, and a barrier of their own.
        const Operands narrow({"narrow", Dtype::bf16, shape(2, 1, 64), {200}}, by);
        const Operands wide({"wide", Dtype::bf16, shape(1, 1, 256), {40}}, by);
        EXPECT_TRUE(every_barrier_matters("attention_backward.cuh", [&](const Launch& launch) {
            std::vector<Matrix> got = narrow.backward(launch);
            got.push_back(wide.backward(launch)[0]);
            return got;
        }));
    }
}

}  // namespace
}  // namespace fedit::test
