// tests/tensor/cuda/lora_rope_test.cpp: the kernel that adds an adapter's part and turns it in one
// pass has the bits of the kernels of each.
#include "tests/tensor/cuda/emulate.h"

#include <algorithm>

#include "tensor/cuda/lora.cuh"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

using emulate::Launch;

enum class Passes { one, apart };

struct Case {
    const char* name;
    std::int64_t head_dim, heads, padding;
    std::vector<std::int64_t> rows, ranks;  ///< of each member
};

/// y and s.
std::vector<Matrix> run(const Case& c, const Launch& launch, Passes passes) {
    constexpr std::int64_t in = 40, last_position = 30;
    const std::int64_t out = c.head_dim * c.heads, rank = std::ranges::max(c.ranks);
    std::vector<std::int64_t> row_begin{0};
    std::vector<HostMatrix> factors;
    std::vector<LoraSlot> slots;
    factors.reserve(2 * c.rows.size());
    for (std::size_t i = 0; i < c.rows.size(); ++i) {
        row_begin.push_back(row_begin.back() + c.rows[i]);
        const auto add = [&](std::int64_t rows, std::int64_t cols) {
            const auto stream = static_cast<std::uint32_t>(30 + factors.size());
            return factors.emplace_back(random_matrix(rows, cols, stream), Dtype::fp32).floats();
        };
        const float *a = add(c.ranks[i], in), *b = add(out, c.ranks[i]);
        slots.push_back({.a = a, .b = b, .rank = c.ranks[i], .scale = 0.5F});
    }
    const std::int64_t rows = row_begin.back();
    std::vector<std::int32_t> positions;
    for (std::int64_t t = 0; t < rows; ++t) {
        positions.push_back(static_cast<std::int32_t>((7 * t + 3) % (last_position + 1)));
    }
    HostMatrix table(random_matrix(last_position + 1, c.head_dim, 5), Dtype::fp32);
    const cuda::DeviceRotary rotary{positions.data(), table.floats()};
    const auto random = [&](std::int64_t cols, std::uint32_t stream) {
        return HostMatrix(rounded_to(Dtype::bf16, random_matrix(rows, cols, stream)), Dtype::bf16,
                          cols + c.padding);
    };
    HostMatrix x = random(in, 1), y = random(out, 2), s(poisoned(rows, rank), Dtype::bf16);
    const cuda::DeviceLayer layer{y.view(),
                                  s.view(),
                                  {.count = std::ssize(slots),
                                   .row_begin = row_begin.data(),
                                   .adapters = slots.data(),
                                   .largest_rank = rank},
                                  3,
                                  passes == Passes::one ? c.heads : 0};
    const std::size_t bytes = cuda::lora_scratch_bytes({&layer, 1}, x.view());
    HostMatrix scratch(poisoned(1, static_cast<std::int64_t>(bytes / sizeof(float))), Dtype::fp32);
    cuda::launch_lora(launch, {&layer, 1}, x.view(), {}, rotary, scratch.floats());
    if (passes == Passes::apart) {
        cuda::launch_rope(launch, y.view(), c.heads, rotary, /*inverse=*/false);
    }
    return {y.values(), s.values()};
}

class LoraRopeTwin : public testing::TestWithParam<Case> {};

TEST_P(LoraRopeTwin, HasTheBitsOfTwoPasses) {
    const auto got =
        run_twin([&](const Launch& launch) { return run(GetParam(), launch, Passes::one); });
    const auto want = run(GetParam(), Launch({}), Passes::apart);
    for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_TRUE(same_bits(got[i], want[i])) << "result " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, LoraRopeTwin,
    testing::Values(Case{"one_row", 64, 1, 0, {1}, {1}},
                    Case{"heads_of_64", 64, 3, 8, {33, 0, 270}, {16, 4, 5}},
                    Case{"heads_of_128", 128, 3, 0, {20, 13}, {16, 2}},
                    Case{"rank_32", 128, 2, 8, {20, 5}, {32, 7}},
                    Case{"rank_32_heads_of_64", 64, 5, 0, {20}, {32}},
                    Case{"more_ranks_than_one_pass_takes", 64, 2, 0, {9}, {40}},
                    Case{"heads_of_32", 32, 4, 0, {9}, {4}}, Case{"heads_of_6", 6, 3, 0, {9}, {4}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(LoraRopeBarriers, AreAllNeeded) {
    const Case c{"barriers", 64, 4, 0, {150}, {16}};
    EXPECT_TRUE(every_barrier_matters(
        "lora_rope.cuh", [&](const Launch& launch) { return run(c, launch, Passes::one); }));
}

}  // namespace
}  // namespace fedit::test
