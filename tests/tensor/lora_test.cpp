// tests/tensor/lora_test.cpp: adapters of several members, their gradients, and dropout.
#include <cmath>
#include <memory>

#include "tests/support/on_every_backend.h"

namespace fedit::test {
namespace {

/// One member: rows, rank, and its factors.
struct Member {
    std::int64_t rows, rank;
};

struct Case {
    const char* name;
    std::int64_t in, out, padding;
    float dropout;
    std::vector<Member> members;
};

/// All operands of one case on a back end.
class Bench {
public:
    Bench(Backend& backend, const Case& c, Dtype dtype = Dtype::fp32)
        : backend_(backend), case_(c), dtype_(dtype) {
        row_begin_.push_back(0);
        std::uint32_t stream = 10;
        for (const Member& member : c.members) {
            row_begin_.push_back(row_begin_.back() + member.rows);
            rank_ = std::max(rank_, member.rank);
            a_.push_back(random_matrix(member.rank, c.in, stream++));
            b_.push_back(random_matrix(c.out, member.rank, stream++));
            keys_.push_back(0x123456789abcdefULL * stream);
        }
        const std::int64_t rows = row_begin_.back();
        for (std::int64_t t = 0; t < rows; ++t) counters_.push_back(t * 7 + (t % 3 << 33));
        x_ = stored(random_matrix(rows, c.in, 1), dtype);
        y_ = stored(random_matrix(rows, c.out, 2), dtype);
        dy_ = stored(random_matrix(rows, c.out, 3), dtype);
        dx_ = stored(random_matrix(rows, c.in, 4), dtype);
        s_device_ = activations(Matrix(rows, rank_), 0);
        ds_device_ = activations(Matrix(rows, rank_), 0);
        x_device_ = activations(x_, c.padding);
        y_device_ = activations(y_, c.padding);
        dy_device_ = activations(dy_, c.padding);
        dx_device_ = activations(dx_, c.padding);
        for (std::size_t i = 0; i < a_.size(); ++i) {
            a_device_.push_back(device(a_[i]));
            b_device_.push_back(device(b_[i]));
            da_device_.push_back(device(Matrix(a_[i].rows, a_[i].cols, 1.0)));
            db_device_.push_back(device(Matrix(b_[i].rows, b_[i].cols, 1.0)));
            slots_.push_back({.a = a_device_[i]->floats(),
                              .b = b_device_[i]->floats(),
                              .da = da_device_[i]->floats(),
                              .db = db_device_[i]->floats(),
                              .rank = a_[i].rows,
                              .scale = 0.5F + static_cast<float>(i)});
        }
    }

    void forward() {
        backend_.lora(y_device_->view(), s_device_->view(), x_device_->view(), {row_begin_}, slots_,
                      dropout());
    }
    void backward(bool with_dx = true) {
        backend_.lora_backward(with_dx ? dx_device_->view() : TensorView{}, ds_device_->view(),
                               dy_device_->view(), s_device_->view(), x_device_->view(),
                               {row_begin_}, slots_, dropout());
    }
    Dropout dropout() const {
        return {.p = case_.dropout, .module = 9, .slot_key = keys_, .row_counter = counters_};
    }
    void expect_forward() const {
        const Matrix y = y_device_->values(), s = s_device_->values();
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            const auto want = naive::lora(part(x_, i), mask(i), a_[i], b_[i], slots_[i].scale);
            EXPECT_TRUE(close_enough(columns(part(s, i), slots_[i].rank), want.s)) << "slot " << i;
            EXPECT_TRUE(close_enough(part(y, i), plus(want.y, part(y_, i)))) << "slot " << i;
        }
    }
    void expect_backward(bool with_dx = true) const {
        const Matrix dx = dx_device_->values();
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            const auto want = naive::lora_backward(part(dy_, i), part(x_, i), mask(i), a_[i], b_[i],
                                                   slots_[i].scale);
            const Matrix dx0 = part(dx_, i);
            EXPECT_TRUE(close_enough(part(dx, i), with_dx ? plus(want.dx, dx0) : dx0))
                << "slot " << i;
            const Matrix ones_a(a_[i].rows, a_[i].cols, 1.0), ones_b(b_[i].rows, b_[i].cols, 1.0);
            EXPECT_TRUE(close_enough(da_device_[i]->values(), plus(want.da, ones_a)))
                << "slot " << i;
            EXPECT_TRUE(close_enough(db_device_[i]->values(), plus(want.db, ones_b)))
                << "slot " << i;
        }
    }
    /// Everything that was computed, in one column.
    Matrix results() const {
        Matrix all;
        const auto append = [&](const Matrix& m) {
            all.values.insert(all.values.end(), m.values.begin(), m.values.end());
        };
        append(y_device_->values());
        append(dx_device_->values());
        for (const auto& m : da_device_) append(m->values());
        for (const auto& m : db_device_) append(m->values());
        return all;
    }
    Matrix mask(std::size_t i) const {
        return naive::dropout_mask(dropout(), i, row_begin_[i], row_begin_[i + 1] - row_begin_[i],
                                   case_.in);
    }

private:
    /// Factors and their gradients.
    std::unique_ptr<DeviceMatrix> device(const Matrix& m) {
        return std::make_unique<DeviceMatrix>(backend_, m);
    }
    std::unique_ptr<DeviceMatrix> activations(const Matrix& m, std::int64_t padding) {
        return std::make_unique<DeviceMatrix>(backend_, m, m.cols + padding, dtype_);
    }
    /// In bf16 the factors, s and ds are rounded before they are multiplied.
    testing::AssertionResult close_enough(const Matrix& got, const Matrix& want) const {
        return dtype_ == Dtype::fp32 ? close(got, want) : close(got, want, 1e-2);
    }
    Matrix part(const Matrix& m, std::size_t i) const {
        return rows_of(m, row_begin_[i], row_begin_[i + 1] - row_begin_[i]);
    }
    /// The first `count` columns.
    static Matrix columns(const Matrix& m, std::int64_t count) {
        return transpose(rows_of(transpose(m), 0, count));
    }
    static Matrix plus(Matrix a, const Matrix& b) {
        for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
        return a;
    }

    Backend& backend_;
    Case case_;
    Dtype dtype_;
    std::int64_t rank_ = 0;
    std::vector<std::int64_t> row_begin_, counters_;
    std::vector<std::uint64_t> keys_;
    Matrix x_, y_, dy_, dx_;
    std::vector<Matrix> a_, b_;
    std::unique_ptr<DeviceMatrix> x_device_, y_device_, s_device_, ds_device_, dy_device_,
        dx_device_;
    std::vector<std::unique_ptr<DeviceMatrix>> a_device_, b_device_, da_device_, db_device_;
    std::vector<LoraSlot> slots_;
};

class Lora : public OnEveryBackend<Case> {};

TEST_P(Lora, AgreesWithDoubleLoops) {
    Bench bench(backend(), test_case(), dtype());
    bench.forward();
    bench.expect_forward();
    bench.backward();
    bench.expect_backward();
}

TEST_P(Lora, LeavesDxAloneWhereItIsNotWanted) {
    Bench bench(backend(), test_case(), dtype());
    bench.forward();
    bench.backward(/*with_dx=*/false);
    bench.expect_backward(/*with_dx=*/false);
}

TEST_P(Lora, HasTheSameBitsAgain) {
    Bench first(backend(), test_case(), dtype()), again(backend(), test_case(), dtype());
    for (Bench* bench : {&first, &again}) {
        bench->forward();
        bench->backward();
    }
    EXPECT_TRUE(same_bits(again.results(), first.results()));
}

class CpuLora : public testing::TestWithParam<Case> {};

TEST_P(CpuLora, HasTheSameBitsOnOneTwoAndThreeThreads) {
    Matrix first;
    for (const int threads : {1, 2, 3}) {
        const auto backend = make_cpu_backend(threads);
        Bench bench(*backend, GetParam());
        bench.forward();
        bench.backward();
        if (threads == 1) first = bench.results();
        EXPECT_TRUE(same_bits(bench.results(), first)) << threads << " threads";
    }
}

const std::initializer_list<Case> cases{
    {"one_row", 1, 1, 0, 0, {{1, 1}}},
    {"one_member", 64, 48, 0, 0, {{7, 4}}},
    {"strided", 130, 67, 6, 0, {{33, 16}}},
    {"deeper_than_a_block", 520, 300, 0, 0, {{150, 8}}},
    {"several_ranks_and_empty_members",
     72,
     90,
     3,
     0,
     {{0, 4}, {13, 64}, {1, 3}, {0, 2}, {60, 17}, {5, 0}}},
    {"aligned_members", 128, 192, 8, 0.1F, {{70, 16}, {1, 16}, {600, 16}}},
    {"aligned_ranks_of_two_tiles", 64, 96, 0, 0, {{40, 24}, {33, 48}}},
    {"aligned_large_rank", 160, 136, 8, 0.1F, {{70, 150}, {20, 9}}},
    {"aligned_many_rows", 64, 64, 0, 0.05F, {{4100, 16}}},
    {"dropout", 130, 67, 6, 0.25F, {{33, 16}, {0, 4}, {50, 5}}},
    {"dropout_few_columns", 3, 5, 0, 0.5F, {{9, 2}}},
    {"dropout_deep", 300, 140, 0, 0.05F, {{140, 8}}}};
std::string case_name(const Case& c) {
    return c.name;
}
INSTANTIATE_TEST_SUITE_P(Cases, Lora, on_every_backend(cases), named_by(case_name));
INSTANTIATE_TEST_SUITE_P(Cases, CpuLora, testing::ValuesIn(cases),
                         [](const auto& test) { return case_name(test.param); });

/// Masks as the back end draws them, read through an adapter of A = B = 1: with x = dy = 1, s is
/// the forward pass's mask and dx that of the backward pass.
struct DrawnMasks {
    Matrix forward, backward;
};

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
    backend.lora(y.view(), s.view(), ones.view(), {row_begin}, std::span(&slot, 1), dropout);
    backend.lora_backward(dx.view(), ds.view(), ones.view(), s.view(), ones.view(), {row_begin},
                          std::span(&slot, 1), dropout);
    return {s.values(), dx.values()};
}

class LoraMask : public OnEveryBackend<float> {};

TEST_P(LoraMask, IsThatOfAScalarLoopForwardAndBackward) {
    const std::int64_t rows = 37;
    std::vector<std::int64_t> counters;
    for (std::int64_t t = 0; t < rows; ++t) counters.push_back(t * 5 + (t % 4 << 32));
    const std::vector<std::uint64_t> keys{0xfedcba9876543210};
    const Dropout dropout{.p = test_case(), .module = 3, .slot_key = keys, .row_counter = counters};
    const double p = static_cast<double>(dropout.threshold()) / 65536;
    EXPECT_NEAR(p, test_case(), 0.5 / 65536 + 1e-7);
    for (const std::int64_t cols : {203, 200}) {  // for plain kernels, and for tensor cores
        SCOPED_TRACE(std::to_string(cols) + " columns");
        const Matrix want = stored(naive::dropout_mask(dropout, 0, 0, rows, cols), dtype());
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
    backend->lora(y.view(), s.view(), device_x.view(), {both}, two,
                  {.p = 0.3F, .module = 1, .slot_key = keys, .row_counter = counters});

    const DeviceMatrix y_alone(*backend, Shape{rows, out}), s_alone(*backend, Shape{rows, rank});
    const std::vector<std::int64_t> one{0, rows};
    backend->lora(y_alone.view(), s_alone.view(), device_x.view().row_range(rows, rows), {one},
                  std::span(&slot, 1),
                  {.p = 0.3F,
                   .module = 1,
                   .slot_key = std::span(keys).subspan(1),
                   .row_counter = std::span(counters).subspan(static_cast<std::size_t>(rows))});
    EXPECT_TRUE(same_bits(y_alone.values(), rows_of(y.values(), rows, rows)));
    EXPECT_FALSE(same_bits(rows_of(s.values(), 0, rows), s_alone.values()));
}

}  // namespace
}  // namespace fedit::test
