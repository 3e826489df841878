// tests/tensor/cuda/lora_test.cpp: the kernels of adapters against double loops: members of several
// ranks in one launch, dropout masks, gradients over several chunks of rows.
#include "tests/tensor/cuda/emulate.h"

#include <memory>

#include "tensor/cuda/lora.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

using emulate::Launch;

struct Member {
    std::int64_t rows, rank;
};

struct Case {
    const char* name;
    Dtype dtype;
    std::int64_t in, out, padding;
    float dropout;
    std::vector<Member> members;
    /// That share x; each is a vector wider than the one before.
    int layers = 1;
};

/// What one layer of a case has of its own.
struct Layer {
    std::int64_t out;
    Matrix y, dy;
    std::vector<Matrix> a, b;  ///< of each member
};

/// The host's side of one case.
class Operands {
public:
    explicit Operands(const Case& c) : case_(c) {
        row_begin_.push_back(0);
        for (const Member& member : c.members) {
            row_begin_.push_back(row_begin_.back() + member.rows);
            rank_ = std::max(rank_, member.rank);
            keys_.push_back(0x123456789abcdefULL * (keys_.size() + 1));
        }
        const std::int64_t rows = row_begin_.back();
        for (std::int64_t t = 0; t < rows; ++t) counters_.push_back(t * 7 + (t % 3 << 33));
        x_ = random(rows, c.in, 1);
        dx_ = random(rows, c.in, 4);
        std::uint32_t stream = 10;
        for (int l = 0; l < c.layers; ++l) {
            Layer layer{.out = c.out + 8 * l, .y = {}, .dy = {}, .a = {}, .b = {}};
            layer.y = random(rows, layer.out, stream++);
            layer.dy = random(rows, layer.out, stream++);
            for (const Member& member : c.members) {
                layer.a.push_back(random_matrix(member.rank, c.in, stream++));
                layer.b.push_back(random_matrix(layer.out, member.rank, stream++));
            }
            layers_.push_back(std::move(layer));
        }
    }

    /// dx; each layer's y and s; each layer's and member's da and db, after the backward pass.
    std::vector<Matrix> run(const Launch& launch) const {
        const std::int64_t rows = x_.rows;
        HostMatrix x = host(x_), dx = host(dx_),
                   ds(poisoned(rows, rank_ * std::ssize(layers_)), case_.dtype);
        std::vector<HostMatrix> matrices, factors;
        std::vector<std::vector<LoraSlot>> slots(layers_.size());
        std::vector<cuda::DeviceLayer> forward, backward;
        matrices.reserve(3 * layers_.size());
        factors.reserve(4 * layers_.size() * keys_.size());
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const Layer& layer = layers_[l];
            for (std::size_t i = 0; i < layer.a.size(); ++i) {
                const auto add = [&](const Matrix& m) -> float* {
                    return factors.emplace_back(m, Dtype::fp32).floats();
                };
                const float *a = add(layer.a[i]), *b = add(layer.b[i]);
                float *da = add(ones(layer.a[i])), *db = add(ones(layer.b[i]));
                slots[l].push_back({.a = a,
                                    .b = b,
                                    .da = da,
                                    .db = db,
                                    .rank = layer.a[i].rows,
                                    .scale = scale(l, i)});
            }
            HostMatrix& y = matrices.emplace_back(host(layer.y));
            HostMatrix& s = matrices.emplace_back(poisoned(rows, rank_), case_.dtype);
            HostMatrix& dy = matrices.emplace_back(host(layer.dy));
            const cuda::DeviceSlots table{.count = std::ssize(slots[l]),
                                          .row_begin = row_begin_.data(),
                                          .adapters = slots[l].data(),
                                          .largest_rank = rank_};
            forward.push_back({y.view(), s.view(), table, module(l)});
            backward.push_back({dy.view(), s.view(), table, module(l)});
        }
        HostMatrix forward_scratch = scratch_of(cuda::lora_scratch_bytes(forward, x.view())),
                   scratch = scratch_of(cuda::lora_backward_scratch_bytes(backward, x.view()));
        cuda::launch_lora(launch, forward, x.view(), device_dropout(), {},
                          forward_scratch.floats());
        cuda::launch_lora_backward(launch, dx.view(), ds.view(), backward, x.view(),
                                   device_dropout(), scratch.floats());
        std::vector<Matrix> results{dx.values()};
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            results.push_back(matrices[3 * l].values());
            results.push_back(matrices[3 * l + 1].values());
        }
        for (std::size_t f = 0; f < factors.size(); f += 4) {
            results.push_back(factors[f + 2].values());
            results.push_back(factors[f + 3].values());
        }
        return results;
    }

    void expect(const std::vector<Matrix>& got) const {
        for (std::size_t i = 0; i < keys_.size(); ++i) {
            SCOPED_TRACE("member " + std::to_string(i));
            Matrix dx = part(dx_, i);
            for (std::size_t l = 0; l < layers_.size(); ++l) {
                SCOPED_TRACE("layer " + std::to_string(l));
                const Layer& layer = layers_[l];
                const Matrix &a = layer.a[i], &b = layer.b[i];
                const Matrix mask =
                    naive::dropout_mask(dropout(), module(l), i, row_begin_[i], rows(i), case_.in);
                const auto forward = naive::lora(part(x_, i), mask, a, b, scale(l, i));
                expect_near(plus(forward.y, part(layer.y, i)), part(got[1 + 2 * l], i));
                expect_near(forward.s,
                            transpose(rows_of(transpose(part(got[2 + 2 * l], i)), 0, a.rows)));
                const auto backward =
                    naive::lora_backward(part(layer.dy, i), part(x_, i), mask, a, b, scale(l, i));
                dx = plus(dx, backward.dx);
                expect_near(plus(backward.da, ones(a)), got[gradient_of(l, i)]);
                expect_near(plus(backward.db, ones(b)), got[gradient_of(l, i) + 1]);
            }
            expect_near(dx, part(got[0], i));
        }
    }

    /// dx, y, da and db of one member.
    std::vector<Matrix> of_member(const std::vector<Matrix>& all, std::size_t i) const {
        std::vector<Matrix> own{part(all[0], i)};
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            own.push_back(part(all[1 + 2 * l], i));
            own.push_back(all[gradient_of(l, i)]);
            own.push_back(all[gradient_of(l, i) + 1]);
        }
        return own;
    }
    /// Replaces a member by member `i` of others.
    void copy_member(const Operands& others, std::size_t i) {
        keys_[0] = others.keys_[i];
        scale_from_ = i;
        const auto first = static_cast<std::size_t>(others.row_begin_[i]);
        for (std::size_t t = 0; t < counters_.size(); ++t) {
            counters_[t] = others.counters_[first + t];
        }
        x_ = others.part(others.x_, i);
        dx_ = others.part(others.dx_, i);
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const Layer& from = others.layers_[l];
            layers_[l] = {.out = from.out,
                          .y = others.part(from.y, i),
                          .dy = others.part(from.dy, i),
                          .a = {from.a[i]},
                          .b = {from.b[i]}};
        }
    }

private:
    Matrix random(std::int64_t rows, std::int64_t cols, std::uint32_t client) const {
        return rounded_to(case_.dtype, random_matrix(rows, cols, client));
    }
    static HostMatrix scratch_of(std::size_t bytes) {
        return HostMatrix(poisoned(1, static_cast<std::int64_t>(bytes / sizeof(float))),
                          Dtype::fp32);
    }
    HostMatrix host(const Matrix& m) const {
        return HostMatrix(m, case_.dtype, m.cols + case_.padding);
    }
    Dropout dropout() const {
        return {.p = case_.dropout, .slot_key = keys_, .row_counter = counters_};
    }
    static std::uint32_t module(std::size_t layer) { return 9 + static_cast<std::uint32_t>(layer); }
    cuda::DeviceDropout device_dropout() const {
        return {.threshold = dropout().threshold(),
                .factor = dropout().factor(),
                .slot_key = keys_.data(),
                .row_counter = counters_.data()};
    }
    float scale(std::size_t layer, std::size_t i) const {
        return 0.5F + static_cast<float>(scale_from_ + i) + 0.25F * static_cast<float>(layer);
    }
    /// Where da is in the results of run().
    std::size_t gradient_of(std::size_t layer, std::size_t i) const {
        return 1 + 2 * layers_.size() + 2 * (layer * keys_.size() + i);
    }
    std::int64_t rows(std::size_t i) const { return row_begin_[i + 1] - row_begin_[i]; }
    Matrix part(const Matrix& m, std::size_t i) const { return rows_of(m, row_begin_[i], rows(i)); }
    static Matrix ones(const Matrix& m) { return Matrix(m.rows, m.cols, 1.0); }
    static Matrix plus(Matrix a, const Matrix& b) {
        for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
        return a;
    }
    void expect_near(const Matrix& want, const Matrix& got) const {
        const auto [error, norm] = deviation(got, want);
        // bf16: input, factor, s and result are rounded to 8 bits, what is summed is not.
        const double allowed = case_.dtype == Dtype::fp32 ? 1e-6 : 4 * 0x1p-9;
        EXPECT_LE(error, allowed * norm);
    }

    Case case_;
    std::int64_t rank_ = 0;
    std::size_t scale_from_ = 0;
    std::vector<std::int64_t> row_begin_, counters_;
    std::vector<std::uint64_t> keys_;
    Matrix x_, dx_;
    std::vector<Layer> layers_;
};

class LoraTwin : public testing::TestWithParam<Case> {};

TEST_P(LoraTwin, AgreesWithDoubleLoops) {
    const Operands operands(GetParam());
    operands.expect(run_twin([&](const Launch& launch) { return operands.run(launch); }));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LoraTwin,
    testing::Values(
        Case{"one_row", Dtype::bf16, 8, 8, 0, 0, {{1, 1}}},
        Case{"one_member", Dtype::bf16, 64, 48, 0, 0, {{33, 16}}},
        Case{"strided", Dtype::bf16, 136, 72, 8, 0, {{70, 5}}},
        Case{"wider_than_a_block", Dtype::bf16, 296, 264, 0, 0, {{20, 16}}},
        Case{"several_ranks_and_empty_members",
             Dtype::bf16,
             72,
             40,
             8,
             0,
             {{0, 4}, {13, 17}, {1, 3}, {0, 2}, {40, 32}, {5, 0}}},
        Case{"rank_of_48", Dtype::bf16, 40, 72, 0, 0, {{20, 48}}},
        Case{"rank_of_150", Dtype::bf16, 40, 16, 0, 0, {{10, 150}, {7, 9}}},
        Case{"more_rows_than_a_chunk", Dtype::bf16, 16, 24, 0, 0, {{530, 2}, {3, 2}}},
        Case{"dropout", Dtype::bf16, 136, 72, 8, 0.25F, {{33, 16}, {0, 4}, {50, 5}}},
        Case{"wider_than_a_slice", Dtype::bf16, 1064, 520, 0, 0.05F, {{17, 16}, {2, 20}}},
        Case{"dropout_few_columns", Dtype::bf16, 8, 16, 0, 0.5F, {{9, 2}}},
        Case{"odd_width", Dtype::bf16, 13, 9, 0, 0.25F, {{6, 3}, {4, 9}}},
        Case{"two_layers", Dtype::bf16, 136, 72, 8, 0, {{33, 16}, {0, 4}, {20, 5}}, 2},
        Case{"two_layers_dropping", Dtype::bf16, 264, 136, 0, 0.25F, {{33, 16}, {1, 3}}, 2},
        Case{"three_layers", Dtype::bf16, 136, 72, 8, 0, {{33, 16}, {0, 4}, {20, 5}}, 3},
        Case{"three_layers_dropping", Dtype::bf16, 264, 40, 0, 0.25F, {{33, 16}, {270, 2}}, 3},
        Case{"three_layers_of_many_ranks", Dtype::bf16, 72, 40, 0, 0.05F, {{17, 40}, {9, 7}}, 3},
        Case{"three_layers_wider_than_a_slice", Dtype::bf16, 1064, 24, 0, 0.05F, {{17, 16}}, 3},
        Case{"five_layers", Dtype::bf16, 72, 40, 0, 0.25F, {{20, 8}}, 5},
        Case{"three_layers_odd_width", Dtype::bf16, 13, 9, 0, 0.25F, {{6, 3}, {4, 9}}, 3},
        Case{"fp32_three_layers", Dtype::fp32, 130, 67, 6, 0.25F, {{13, 16}, {20, 5}}, 3},
        Case{"fp32_one_row", Dtype::fp32, 1, 1, 0, 0, {{1, 1}}},
        Case{"fp32_strided", Dtype::fp32, 130, 67, 6, 0, {{13, 16}}},
        Case{"fp32_several_ranks_and_empty_members",
             Dtype::fp32,
             72,
             90,
             3,
             0,
             {{0, 4}, {13, 20}, {1, 3}, {0, 2}, {20, 17}, {5, 0}}},
        Case{"fp32_more_rows_than_a_chunk", Dtype::fp32, 5, 9, 0, 0, {{530, 2}, {3, 2}}},
        Case{"fp32_dropout", Dtype::fp32, 130, 67, 6, 0.25F, {{13, 16}, {0, 4}, {20, 5}}},
        Case{"fp32_wide", Dtype::fp32, 1100, 20, 0, 0.05F, {{5, 8}}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LoraTwins, AMemberHasItsBitsAloneAndInCompany) {
    for (const Dtype dtype : {Dtype::bf16, Dtype::fp32}) {
        for (const int layers : {1, 2, 3}) {
            SCOPED_TRACE(std::to_string(layers) + " layers");
            const Operands company(
                {"company", dtype, 72, 40, 0, 0.25F, {{5, 8}, {300, 8}, {3, 40}, {0, 4}}, layers});
            Operands alone({"alone", dtype, 72, 40, 0, 0.25F, {{300, 8}}, layers});
            alone.copy_member(company, 1);
            const Launch launch({});
            const auto in_company = company.of_member(company.run(launch), 1);
            const auto by_itself = alone.of_member(alone.run(launch), 0);
            for (std::size_t i = 0; i < by_itself.size(); ++i) {
                EXPECT_TRUE(same_bits(by_itself[i], in_company[i])) << "result " << i;
            }
        }
    }
}

/// Through an adapter of A = B = 1 and with x = dy = 1, s is the forward pass's mask and dx the
/// backward pass's, rounded to what activations hold. Plain kernels (19 columns) and tensor cores.
TEST(LoraTwins, DrawTheMasksOfAScalarLoop) {
    const std::int64_t rows = 21;
    const std::vector<std::uint64_t> keys{0xfedcba9876543210};
    std::vector<std::int64_t> counters;
    for (std::int64_t t = 0; t < rows; ++t) counters.push_back(t * 5 + (t % 4 << 32));
    const Dropout dropout{.p = 0.1F, .slot_key = keys, .row_counter = counters};
    constexpr std::uint32_t module = 3;
    const cuda::DeviceDropout on_device{.threshold = dropout.threshold(),
                                        .factor = dropout.factor(),
                                        .slot_key = keys.data(),
                                        .row_counter = counters.data()};
    const std::vector<std::int64_t> begin{0, rows};
    for (const Dtype dtype : {Dtype::bf16, Dtype::fp32}) {
        for (const std::int64_t cols : {19, 40}) {
            SCOPED_TRACE(std::to_string(cols) + " columns");
            Matrix identity(cols, cols);
            for (std::int64_t i = 0; i < cols; ++i) identity(i, i) = 1;
            HostMatrix factor(identity, Dtype::fp32), da(identity, Dtype::fp32),
                db(identity, Dtype::fp32), ones(Matrix(rows, cols, 1.0), dtype),
                y(Matrix(rows, cols), dtype), dx(Matrix(rows, cols), dtype),
                s(poisoned(rows, cols), dtype), ds(poisoned(rows, cols), dtype);
            const LoraSlot slot{.a = factor.floats(),
                                .b = factor.floats(),
                                .da = da.floats(),
                                .db = db.floats(),
                                .rank = cols};
            const cuda::DeviceSlots slots{
                .count = 1, .row_begin = begin.data(), .adapters = &slot, .largest_rank = cols};
            const cuda::DeviceLayer forward{y.view(), s.view(), slots, module},
                backward{ones.view(), s.view(), slots, module};
            HostMatrix scratch(
                poisoned(1, static_cast<std::int64_t>(
                                cuda::lora_backward_scratch_bytes({&backward, 1}, ones.view()) /
                                sizeof(float))),
                Dtype::fp32);
            const Launch launch({});
            cuda::launch_lora(launch, {&forward, 1}, ones.view(), on_device, {}, scratch.floats());
            cuda::launch_lora_backward(launch, dx.view(), ds.view(), {&backward, 1}, ones.view(),
                                       on_device, scratch.floats());
            Matrix want = naive::dropout_mask(dropout, module, 0, 0, rows, cols);
            for (double& value : want.values) value = static_cast<float>(value);
            want = rounded_to(dtype, want);
            EXPECT_TRUE(same_bits(s.values(), want));
            EXPECT_TRUE(same_bits(dx.values(), want));
        }
    }
}

TEST(LoraTwins, PhiloxGivesTheAnswersPublishedWithRandom123) {
    const uint4 r =
        cuda::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0);
    EXPECT_EQ(r.x, 0xd16cfe09U);
    EXPECT_EQ(r.y, 0x94fdccebU);
    EXPECT_EQ(r.z, 0x5001e420U);
    EXPECT_EQ(r.w, 0x24126ea1U);
}

TEST(LoraBarriers, AreAllNeeded) {
    const Operands operands({"barriers", Dtype::bf16, 296, 264, 0, 0, {{150, 16}}});
    const auto run = [&](const Launch& launch) { return operands.run(launch); };
    const Operands dropping({"barriers_with_masks", Dtype::bf16, 296, 264, 0, 0.25F, {{50, 16}}});
    const auto run_dropping = [&](const Launch& launch) { return dropping.run(launch); };
    EXPECT_TRUE(every_barrier_matters("lora_down.cuh", run_dropping));
    EXPECT_TRUE(every_barrier_matters("lora_up.cuh", run));
    const Operands sharing({"barriers_of_layers", Dtype::bf16, 296, 136, 0, 0.25F, {{50, 16}}, 3});
    const auto run_sharing = [&](const Launch& launch) { return sharing.run(launch); };
    EXPECT_TRUE(every_barrier_matters("lora_down.cuh", run_sharing));
    EXPECT_TRUE(every_barrier_matters("lora_up.cuh", run_sharing));
}

}  // namespace
}  // namespace fedit::test
