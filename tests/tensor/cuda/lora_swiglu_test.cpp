// tests/tensor/cuda/lora_swiglu_test.cpp: the kernels that take adapters and SwiGLU in one pass
// have the bits of the kernels of each.
#include "tests/tensor/cuda/emulate.h"

#include <algorithm>
#include <memory>

#include "tensor/cuda/lora.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

using emulate::Launch;

enum class Passes { one, apart };

struct Case {
    const char* name;
    std::int64_t in, width, padding;
    float dropout;
    std::vector<std::int64_t> rows, ranks;  ///< of each member
};

/// A layer's factors and their gradients, and the table that a launch reads.
class Adapters {
public:
    Adapters(const Case& c, std::int64_t in, std::int64_t out, std::uint32_t stream) {
        for (std::size_t i = 0; i < c.ranks.size(); ++i) {
            const auto add = [&](std::int64_t rows, std::int64_t cols, bool random) {
                const Matrix m = random ? random_matrix(rows, cols, stream++) : Matrix(rows, cols);
                return memory_.emplace_back(std::make_unique<HostMatrix>(m, Dtype::fp32))->floats();
            };
            slots_.push_back({.a = add(c.ranks[i], in, true),
                              .b = add(out, c.ranks[i], true),
                              .da = add(c.ranks[i], in, false),
                              .db = add(out, c.ranks[i], false),
                              .rank = c.ranks[i],
                              .scale = 0.5F + static_cast<float>(i)});
        }
    }
    cuda::DeviceSlots table(const std::vector<std::int64_t>& row_begin) const {
        return {.count = std::ssize(slots_),
                .row_begin = row_begin.data(),
                .adapters = slots_.data(),
                .largest_rank = std::ranges::max(slots_, {}, &LoraSlot::rank).rank};
    }
    void append_gradients(std::vector<Matrix>& all) const {
        for (std::size_t i = 0; i < memory_.size(); i += 4) {
            all.push_back(memory_[i + 2]->values());
            all.push_back(memory_[i + 3]->values());
        }
    }

private:
    std::vector<std::unique_ptr<HostMatrix>> memory_;
    std::vector<LoraSlot> slots_;
};

class Operands {
public:
    explicit Operands(const Case& c) : case_(c) {
        row_begin_.push_back(0);
        for (const std::int64_t rows : c.rows) {
            row_begin_.push_back(row_begin_.back() + rows);
            keys_.push_back(0x123456789abcdefULL * row_begin_.size());
        }
        rank_ = std::ranges::max(c.ranks);
        for (std::int64_t t = 0; t < row_begin_.back(); ++t) counters_.push_back(t * 7);
    }

    /// act, gate and up.
    std::vector<Matrix> forward(const Launch& launch, Passes passes) const {
        const Adapters gate_factors(case_, case_.in, case_.width, 50),
            up_factors(case_, case_.in, case_.width, 80);
        HostMatrix x = random(case_.in, 1), gate = random(case_.width, 2),
                   up = random(case_.width, 3), act = unwritten(case_.width),
                   gate_s = unwritten(rank_), up_s = unwritten(rank_);
        const std::vector<cuda::DeviceLayer> layers{
            {gate.view(), gate_s.view(), gate_factors.table(row_begin_), 4},
            {up.view(), up_s.view(), up_factors.table(row_begin_), 5}};
        HostMatrix scratch = scratch_of(cuda::lora_scratch_bytes(layers, x.view()));
        if (passes == Passes::one) {
            cuda::launch_lora_swiglu(launch, act.view(), layers, x.view(), dropout(),
                                     scratch.floats());
        } else {
            cuda::launch_lora(launch, layers, x.view(), dropout(), {}, scratch.floats());
            cuda::launch_swiglu(launch, act.view(), gate.view(), up.view());
        }
        return {act.values(), gate.values(), up.values()};
    }

    /// The gradients of gate and up, which take their place, and those of the layer above.
    std::vector<Matrix> backward(const Launch& launch, Passes passes) const {
        const Adapters factors(case_, case_.width, case_.in, 110);
        HostMatrix dy = random(case_.in, 5), d_act = random(case_.width, 6),
                   gate = random(case_.width, 7), up = random(case_.width, 8),
                   act = unwritten(case_.width), s = random(rank_, 9), ds = unwritten(rank_);
        cuda::launch_swiglu(launch, act.view(), gate.view(), up.view());
        const cuda::DeviceLayer down{dy.view(), s.view(), factors.table(row_begin_), 6};
        HostMatrix scratch = scratch_of(cuda::lora_backward_scratch_bytes({&down, 1}, act.view()));
        if (passes == Passes::one) {
            cuda::launch_lora_swiglu_backward(launch, gate.view(), up.view(), d_act.view(),
                                              ds.view(), down, act.view(), gate.view(), up.view(),
                                              dropout(), scratch.floats());
        } else {
            cuda::launch_lora_backward(launch, d_act.view(), ds.view(), {&down, 1}, act.view(),
                                       dropout(), scratch.floats());
            cuda::launch_swiglu_backward(launch, gate.view(), up.view(), d_act.view(), gate.view(),
                                         up.view());
        }
        std::vector<Matrix> results{gate.values(), up.values()};
        factors.append_gradients(results);
        return results;
    }

private:
    HostMatrix random(std::int64_t cols, std::uint32_t stream) const {
        return {rounded_to(Dtype::bf16, random_matrix(row_begin_.back(), cols, stream)),
                Dtype::bf16, padded(cols)};
    }
    HostMatrix unwritten(std::int64_t cols) const {
        return {poisoned(row_begin_.back(), cols), Dtype::bf16, padded(cols)};
    }
    std::int64_t padded(std::int64_t cols) const { return cols + case_.padding; }
    static HostMatrix scratch_of(std::size_t bytes) {
        return {poisoned(1, static_cast<std::int64_t>(bytes / sizeof(float))), Dtype::fp32};
    }
    cuda::DeviceDropout dropout() const {
        const Dropout host{.p = case_.dropout};
        return {.threshold = host.threshold(),
                .factor = host.factor(),
                .slot_key = keys_.data(),
                .row_counter = counters_.data()};
    }

    Case case_;
    std::int64_t rank_ = 0;
    std::vector<std::int64_t> row_begin_, counters_;
    std::vector<std::uint64_t> keys_;
};

void expect_same(const std::vector<Matrix>& got, const std::vector<Matrix>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_TRUE(same_bits(got[i], want[i])) << "result " << i;
    }
}

class LoraSwigluTwin : public testing::TestWithParam<Case> {};

TEST_P(LoraSwigluTwin, HasTheBitsOfTwoPasses) {
    const Operands operands(GetParam());
    const Launch launch({});
    expect_same(run_twin([&](const Launch& l) { return operands.forward(l, Passes::one); }),
                operands.forward(launch, Passes::apart));
    expect_same(run_twin([&](const Launch& l) { return operands.backward(l, Passes::one); }),
                operands.backward(launch, Passes::apart));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LoraSwigluTwin,
    testing::Values(Case{"one_row", 8, 8, 0, 0, {1}, {1}},
                    Case{"rank_16", 40, 136, 0, 0, {33}, {16}},
                    Case{"rank_16_dropping", 40, 136, 8, 0.25F, {33, 0, 270}, {16, 4, 5}},
                    Case{"rank_32_dropping", 40, 136, 0, 0.25F, {17, 20}, {32, 9}},
                    Case{"wider_than_a_block", 24, 264, 0, 0.05F, {20}, {16}},
                    Case{"more_ranks_than_one_pass_takes", 24, 40, 0, 0.25F, {20, 5}, {33, 2}},
                    Case{"odd_width", 13, 9, 1, 0.25F, {6}, {3}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LoraSwigluBarriers, AreAllNeeded) {
    const Operands operands({"barriers", 40, 136, 0, 0.25F, {150}, {16}});
    const auto both = [&](const Launch& launch) {
        std::vector<Matrix> results = operands.forward(launch, Passes::one);
        for (Matrix& m : operands.backward(launch, Passes::one)) results.push_back(std::move(m));
        return results;
    };
    EXPECT_TRUE(every_barrier_matters("lora_swiglu.cuh", both));
}

}  // namespace
}  // namespace fedit::test
