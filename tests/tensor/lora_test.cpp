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
    /// That share x; each is a vector wider than the one before.
    int layers = 1;
};

/// A layer of a case on a back end.
struct Layer {
    std::int64_t out = 0;
    std::uint32_t module = 0;
    Matrix y0, dy0;
    std::vector<Matrix> a, b;  ///< of each member
    std::unique_ptr<DeviceMatrix> y, s, dy;
    std::vector<std::unique_ptr<DeviceMatrix>> a_device, b_device, da, db;
    std::vector<LoraSlot> slots;
};

/// All operands of one case on a back end.
class Bench {
public:
    Bench(Backend& backend, const Case& c, Dtype dtype = Dtype::fp32)
        : backend_(backend), case_(c), dtype_(dtype) {
        row_begin_.push_back(0);
        for (const Member& member : c.members) {
            row_begin_.push_back(row_begin_.back() + member.rows);
            rank_ = std::max(rank_, member.rank);
            keys_.push_back(0x123456789abcdefULL * (keys_.size() + 1));
        }
        const std::int64_t rows = row_begin_.back();
        for (std::int64_t t = 0; t < rows; ++t) counters_.push_back(t * 7 + (t % 3 << 33));
        x_ = stored(random_matrix(rows, c.in, 1), dtype);
        dx_ = stored(random_matrix(rows, c.in, 4), dtype);
        x_device_ = activations(x_, c.padding);
        dx_device_ = activations(dx_, c.padding);
        ds_device_ = activations(Matrix(rows, rank_ * c.layers), 0);
        for (int l = 0; l < c.layers; ++l) layers_.push_back(make_layer(l));
    }

    void forward() { backend_.lora(outputs(), x_device_->view(), {row_begin_}, dropout(), {}); }
    void backward(bool with_dx = true) {
        backend_.lora_backward(with_dx ? dx_device_->view() : TensorView{}, ds_device_->view(),
                               gradients(), x_device_->view(), {row_begin_}, dropout());
    }
    Dropout dropout() const {
        return {.p = case_.dropout, .slot_key = keys_, .row_counter = counters_};
    }
    void expect_forward() const {
        for (const Layer& layer : layers_) {
            SCOPED_TRACE("module " + std::to_string(layer.module));
            const Matrix y = layer.y->values(), s = layer.s->values();
            for (std::size_t i = 0; i < layer.slots.size(); ++i) {
                const auto want = naive::lora(part(x_, i), mask(layer, i), layer.a[i], layer.b[i],
                                              layer.slots[i].scale);
                EXPECT_TRUE(close_enough(columns(part(s, i), layer.slots[i].rank), want.s))
                    << "slot " << i;
                EXPECT_TRUE(close_enough(part(y, i), plus(want.y, part(layer.y0, i))))
                    << "slot " << i;
            }
        }
    }
    void expect_backward(bool with_dx = true) const {
        const Matrix dx = dx_device_->values();
        for (std::size_t i = 0; i < case_.members.size(); ++i) {
            SCOPED_TRACE("slot " + std::to_string(i));
            Matrix want_dx = part(dx_, i);
            for (const Layer& layer : layers_) {
                SCOPED_TRACE("module " + std::to_string(layer.module));
                const auto want =
                    naive::lora_backward(part(layer.dy0, i), part(x_, i), mask(layer, i),
                                         layer.a[i], layer.b[i], layer.slots[i].scale);
                if (with_dx) want_dx = plus(want_dx, want.dx);
                EXPECT_TRUE(close_enough(layer.da[i]->values(), plus(want.da, ones(layer.a[i]))));
                EXPECT_TRUE(close_enough(layer.db[i]->values(), plus(want.db, ones(layer.b[i]))));
            }
            EXPECT_TRUE(close_enough(part(dx, i), want_dx));
        }
    }
    /// Everything that was computed, in one column.
    Matrix results() const {
        Matrix all;
        append(all, dx_device_->values());
        for (const Layer& layer : layers_) {
            append(all, layer.y->values());
            append_gradients(all, layer);
        }
        return all;
    }

    /// lora() of two layers and swiglu() of their outputs; then lora_backward() of the first layer
    /// the other way round, as the one above SwiGLU: its dx is that of act. In one pass or by the
    /// operations that it stands for.
    Matrix run_with_swiglu(bool in_one_pass) {
        const Layer &gate = layers_[0], &up = layers_[1];
        const std::int64_t rows = row_begin_.back(), width = gate.out;
        const TensorView gate_view = gate.y->view(), up_view = up.y->view().columns(0, width);
        std::vector<LoraLayer> both = outputs();
        both[1].y = up_view;
        const auto act = activations(Matrix(rows, width), case_.padding);
        const Slots slots{row_begin_};
        if (in_one_pass) {
            backend_.lora_swiglu(act->view(), both, x_device_->view(), slots, dropout());
        } else {
            backend_.lora(both, x_device_->view(), slots, dropout(), {});
            backend_.swiglu(act->view(), gate_view, up_view);
        }
        Matrix all = act->values();
        append(all, gate.y->values());
        append(all, up.y->values());

        // The layer above: from width columns to those of x.
        const auto d_act = activations(gate.dy0, case_.padding),
                   dy = activations(dx_, case_.padding), s = activations(s_values(), 0);
        std::vector<LoraSlot> above;
        for (const LoraSlot& slot : gate.slots) {
            above.push_back(slot);
            std::swap(above.back().a, above.back().b);  // transposed, as numbers: any will do
            std::swap(above.back().da, above.back().db);
        }
        const LoraLayer down{.y = dy->view(), .s = s->view(), .adapters = above, .module = 5};
        const TensorView ds = ds_device_->view().columns(0, rank_);
        if (in_one_pass) {
            backend_.lora_swiglu_backward(gate_view, up_view, d_act->view(), ds, down, act->view(),
                                          gate_view, up_view, slots, dropout());
        } else {
            backend_.lora_backward(d_act->view(), ds, {&down, 1}, act->view(), slots, dropout());
            backend_.swiglu_backward(gate_view, up_view, d_act->view(), gate_view, up_view);
        }
        append(all, gate.y->values());
        append(all, up.y->values());
        append_gradients(all, gate);
        return all;
    }

    /// lora() that turns heads of two layers, or lora() and rope(); the third layer has none.
    Matrix run_with_rope(bool in_one_pass, std::int64_t head_dim) {
        std::vector<std::int32_t> positions;
        for (std::int64_t t = 0; t < row_begin_.back(); ++t) {
            positions.push_back(static_cast<std::int32_t>(5 + t % 40));
        }
        std::vector<float> frequencies;
        for (std::int64_t i = 0; i < head_dim / 2; ++i) {
            frequencies.push_back(1.0F / (1.0F + static_cast<float>(i)));
        }
        const Rotary rotary{positions, frequencies, 1.25F};
        std::vector<LoraLayer> layers = outputs();
        for (std::size_t l = 0; l < 2; ++l) {
            layers[l].y = layers[l].y.columns(0, case_.out);
            layers[l].turned_heads = in_one_pass ? case_.out / head_dim : 0;
        }
        backend_.lora(layers, x_device_->view(), {row_begin_}, dropout(), rotary);
        for (std::size_t l = 0; l < 2 && !in_one_pass; ++l) {
            backend_.rope(layers[l].y, case_.out / head_dim, rotary, /*inverse=*/false);
        }
        return results();
    }

private:
    Layer make_layer(int number) const {
        const std::int64_t rows = row_begin_.back();
        const auto base = static_cast<std::uint32_t>(100 * (number + 1));
        Layer layer;
        layer.out = case_.out + 8 * number;
        layer.module = 9 + static_cast<std::uint32_t>(number);
        layer.y0 = stored(random_matrix(rows, layer.out, base), dtype_);
        layer.dy0 = stored(random_matrix(rows, layer.out, base + 1), dtype_);
        layer.y = activations(layer.y0, case_.padding);
        layer.dy = activations(layer.dy0, case_.padding);
        layer.s = activations(Matrix(rows, rank_), 0);
        for (std::size_t i = 0; i < case_.members.size(); ++i) {
            const auto stream = base + 2 + 2 * static_cast<std::uint32_t>(i);
            const std::int64_t rank = case_.members[i].rank;
            layer.a.push_back(random_matrix(rank, case_.in, stream));
            layer.b.push_back(random_matrix(layer.out, rank, stream + 1));
            layer.a_device.push_back(device(layer.a[i]));
            layer.b_device.push_back(device(layer.b[i]));
            layer.da.push_back(device(ones(layer.a[i])));
            layer.db.push_back(device(ones(layer.b[i])));
            layer.slots.push_back(
                {.a = layer.a_device[i]->floats(),
                 .b = layer.b_device[i]->floats(),
                 .da = layer.da[i]->floats(),
                 .db = layer.db[i]->floats(),
                 .rank = rank,
                 .scale = 0.5F + static_cast<float>(i) + 0.25F * static_cast<float>(number)});
        }
        return layer;
    }
    std::vector<LoraLayer> outputs() const {
        std::vector<LoraLayer> all;
        for (const Layer& layer : layers_) {
            all.push_back({layer.y->view(), layer.s->view(), layer.slots, layer.module});
        }
        return all;
    }
    std::vector<LoraLayer> gradients() const {
        std::vector<LoraLayer> all = outputs();
        for (std::size_t l = 0; l < all.size(); ++l) all[l].y = layers_[l].dy->view();
        return all;
    }
    Matrix s_values() const { return stored(random_matrix(row_begin_.back(), rank_, 77), dtype_); }
    Matrix mask(const Layer& layer, std::size_t i) const {
        return naive::dropout_mask(dropout(), layer.module, i, row_begin_[i],
                                   row_begin_[i + 1] - row_begin_[i], case_.in);
    }
    static void append(Matrix& all, const Matrix& m) {
        all.values.insert(all.values.end(), m.values.begin(), m.values.end());
    }
    static void append_gradients(Matrix& all, const Layer& layer) {
        for (const auto& m : layer.da) append(all, m->values());
        for (const auto& m : layer.db) append(all, m->values());
    }
    /// Factors and their gradients.
    std::unique_ptr<DeviceMatrix> device(const Matrix& m) const {
        return std::make_unique<DeviceMatrix>(backend_, m);
    }
    std::unique_ptr<DeviceMatrix> activations(const Matrix& m, std::int64_t padding) const {
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
    static Matrix ones(const Matrix& m) { return Matrix(m.rows, m.cols, 1.0); }
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
    Matrix x_, dx_;
    std::unique_ptr<DeviceMatrix> x_device_, dx_device_, ds_device_;
    std::vector<Layer> layers_;
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

class LoraWithSwiglu : public OnEveryBackend<Case> {};

TEST_P(LoraWithSwiglu, HasTheBitsOfTheOperationsThatItStandsFor) {
    Bench one_pass(backend(), test_case(), dtype()), apart(backend(), test_case(), dtype());
    EXPECT_TRUE(same_bits(one_pass.run_with_swiglu(true), apart.run_with_swiglu(false)));
}

struct TurnedCase {
    Case lora;
    std::int64_t head_dim;
};
class LoraWithRope : public OnEveryBackend<TurnedCase> {};

TEST_P(LoraWithRope, HasTheBitsOfTheOperationsThatItStandsFor) {
    const auto& [lora, head_dim] = test_case();
    Bench one_pass(backend(), lora, dtype()), apart(backend(), lora, dtype()),
        unturned(backend(), lora, dtype());
    const Matrix got = one_pass.run_with_rope(true, head_dim);
    EXPECT_TRUE(same_bits(got, apart.run_with_rope(false, head_dim)));
    unturned.forward();
    EXPECT_FALSE(same_bits(got, unturned.results()));
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
    {"dropout_deep", 300, 140, 0, 0.05F, {{140, 8}}},
    {"aligned_two_layers", 136, 72, 8, 0.1F, {{70, 16}, {0, 16}, {13, 5}}, 2},
    {"aligned_three_layers", 1032, 256, 0, 0.05F, {{300, 16}, {40, 16}}, 3},
    {"three_layers", 130, 67, 3, 0.25F, {{33, 16}, {50, 5}}, 3},
    {"aligned_four_layers", 64, 40, 0, 0, {{20, 40}, {9, 7}}, 4}};
std::string case_name(const Case& c) {
    return c.name;
}
INSTANTIATE_TEST_SUITE_P(Cases, Lora, on_every_backend(cases), named_by(case_name));
const std::initializer_list<Case> swiglu_cases{
    {"ranks_of_16", 136, 136, 8, 0.1F, {{70, 16}, {0, 16}, {13, 5}}, 2},
    {"ranks_of_32", 264, 264, 0, 0, {{300, 32}, {17, 9}}, 2},
    {"ranks_of_40", 72, 72, 0, 0.05F, {{33, 40}, {5, 3}}, 2},
    {"no_vectors", 13, 13, 2, 0.25F, {{9, 4}}, 2}};
INSTANTIATE_TEST_SUITE_P(Cases, LoraWithSwiglu, on_every_backend(swiglu_cases),
                         named_by(case_name));
const std::initializer_list<TurnedCase> turned_cases{
    {{"heads_of_64", 72, 192, 8, 0.1F, {{70, 16}, {0, 16}, {13, 5}}, 3}, 64},
    {{"heads_of_128", 72, 256, 0, 0, {{33, 32}, {5, 3}}, 3}, 128},
    {{"heads_of_128_rank_40", 72, 128, 0, 0, {{33, 40}}, 3}, 128},
    {{"heads_of_32", 40, 96, 8, 0.1F, {{33, 4}}, 3}, 32}};
INSTANTIATE_TEST_SUITE_P(Cases, LoraWithRope, on_every_backend(turned_cases),
                         named_by([](const TurnedCase& c) { return case_name(c.lora); }));
INSTANTIATE_TEST_SUITE_P(Cases, CpuLora, testing::ValuesIn(cases),
                         [](const auto& test) { return case_name(test.param); });

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
