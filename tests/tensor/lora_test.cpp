// tests/tensor/lora_test.cpp: adapters of several members, and their gradients.
#include <memory>

#include "tests/support/on_every_backend.h"
#include "tests/tensor/cpu_products.h"

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
    /// `dtype`: of activations. `products`: of the operands of fp32 activations.
    Bench(Backend& backend, const Case& c, Dtype dtype = Dtype::fp32, Dtype products = Dtype::fp32)
        : backend_(backend), case_(c), dtype_(dtype), products_(products) {
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
            all.push_back({.y = layer.y->view(),
                           .s = layer.s->view(),
                           .adapters = layer.slots,
                           .module = layer.module,
                           .products = products_});
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
        const bool fp32 = dtype_ == Dtype::fp32 && products_ == Dtype::fp32;
        return fp32 ? close(got, want) : close(got, want, 1e-2);
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
    Dtype dtype_, products_;
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

/// Forward and backward on `threads` threads.
Matrix cpu_results(const Case& c, CpuProducts products, int threads) {
    const auto backend = cpu_backend_with(products, threads);
    Bench bench(*backend, c, Dtype::fp32, dtype_of(products));
    bench.forward();
    bench.backward();
    return bench.results();
}

class CpuLora : public OnCpuProducts<Case> {};

TEST_P(CpuLora, HasTheSameBitsOnOneTwoAndThreeThreads) {
    const Matrix first = cpu_results(test_case(), products(), 1);
    for (const int threads : {2, 3}) {
        EXPECT_TRUE(same_bits(cpu_results(test_case(), products(), threads), first))
            << threads << " threads";
    }
}

TEST_P(CpuLora, AgreesWithDoubleLoops) {
    const auto backend = cpu_backend_with(products(), 2);
    Bench bench(*backend, test_case(), Dtype::fp32, dtype_of(products()));
    bench.forward();
    bench.expect_forward();
    bench.backward();
    bench.expect_backward();
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
INSTANTIATE_TEST_SUITE_P(Cases, CpuLora, on_cpu_products(cases), named_by_products(case_name));

class CpuLoraInBf16 : public testing::TestWithParam<Case> {};

TEST_P(CpuLoraInBf16, HasTheBitsOfItsEmulation) {
    if (!has_bf16_instructions()) GTEST_SKIP() << "this CPU has no bf16 instructions";
    EXPECT_TRUE(same_bits(cpu_results(GetParam(), CpuProducts::bf16, 2),
                          cpu_results(GetParam(), CpuProducts::emulated_bf16, 2)));
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuLoraInBf16, testing::ValuesIn(cases),
                         [](const auto& test) { return case_name(test.param); });

}  // namespace
}  // namespace fedit::test
