// tests/tensor/cuda/emulate_test.cpp: the emulation itself: what it must find, it finds.
#include "tests/tensor/cuda/emulate_group.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "tensor/cuda/rows.cuh"
#include "tests/support/shared_data.h"
#include "tests/tensor/cuda/twin.h"

namespace fedit::test {
namespace {

using emulate::Order;

void run(int threads, const emulate::Settings& settings, const std::function<void()>& kernel) {
    emulate::run({.x = 1, .threads = threads}, settings, kernel);
}

TEST(Emulation, RunsEveryThreadOfEveryBlock) {
    std::vector<int> count(5 * 2 * 96);
    emulate::run({.x = 5, .threads = 96, .y = 2}, {}, [&] {
        ++count[(blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x];
    });
    EXPECT_EQ(count, std::vector<int>(count.size(), 1));
}

TEST(Emulation, ShufflesWithinAWarp) {
    std::vector<float> got(64);
    run(64, {}, [&] {
        const auto own = static_cast<float>(threadIdx.x);
        for (int i = 0; i < 3; ++i) {
            got[threadIdx.x] = cuda::shfl_xor(own, 5) + 100 * cuda::shfl(own, 7);
        }
    });
    for (unsigned i = 0; i < 64; ++i) {
        EXPECT_EQ(got[i], static_cast<float>((i ^ 5) + 100 * (i / 32 * 32 + 7))) << i;
    }
}

TEST(Emulation, LeadsWithTheFirstOrTheLastWarp) {
    for (const Order order : {Order::first_to_last, Order::last_to_first}) {
        std::vector<unsigned> warps;
        run(96, {.order = order}, [&] {
            for (int i = 0; i < 2; ++i) {
                if (threadIdx.x % 32 == 0) warps.push_back(threadIdx.x / 32);
                __syncthreads();
            }
        });
        EXPECT_EQ(warps, order == Order::first_to_last ? (std::vector<unsigned>{0, 1, 2, 0, 1, 2})
                                                       : (std::vector<unsigned>{2, 1, 0, 2, 1, 0}));
    }
}

TEST(Emulation, FillsSharedMemoryWithNanBeforeEachBlock) {
    std::vector<float> seen;
    emulate::run({.x = 2, .threads = 32, .shared_bytes = 4}, {}, [&] {
        __shared__ cuda::SharedArray<float, 1> fixed;
        auto* const dynamic = reinterpret_cast<float*>(cuda::dynamic_shared());
        if (threadIdx.x == 0) seen.insert(seen.end(), {fixed[0], *dynamic});
        fixed[0] = 1, *dynamic = 1;
    });
    ASSERT_EQ(seen.size(), 4);
    for (const float value : seen) EXPECT_TRUE(std::isnan(value));
}

TEST(Emulation, RefusesWhatAGpuWouldFailAt) {
    EXPECT_THROW(run(48, {}, [] {}), std::runtime_error) << "half a warp";
    EXPECT_THROW(run(32, {},
                     [] {
                         if (threadIdx.x != 9) cuda::shfl(0, 1);
                     }),
                 std::runtime_error)
        << "a lane misses a shuffle";
    const auto part_of_the_block_waits_elsewhere = [] {
        if (threadIdx.x < 32) {
            __syncthreads();
        } else {
            __syncthreads();
        }
    };
    EXPECT_THROW(run(64, {}, part_of_the_block_waits_elsewhere), std::runtime_error);
    EXPECT_THROW(run(32, {},
                     [] {
                         if (threadIdx.x % 2 == 0) __syncthreads();
                         cuda::sync_warp();
                     }),
                 std::runtime_error)
        << "half the warp waits for the block";
    alignas(16) std::array<float, 8> memory{};
    EXPECT_THROW(run(32, {}, [&] { cuda::load16(&memory[1]); }), std::runtime_error);
    EXPECT_THROW(run(32, {}, [&] { cuda::store16(&memory[2], {}); }), std::runtime_error);
    EXPECT_THROW(run(32, {},
                     [] {
                         __shared__ cuda::SharedArray<float, 4> few;
                         few[4] = 1;
                     }),
                 std::out_of_range);
    std::vector<int> ran(32);
    run(32, {}, [&] { ran[threadIdx.x] = cuda::shfl(1, 0); });
    EXPECT_EQ(ran, std::vector<int>(32, 1)) << "after failures all goes on";
}

/// Two barriers in block_sum, of which one sum alone needs only the second.
void sums_kernel(double* out, int count) {
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += cuda::block_sum((i + 1.0) * threadIdx.x);
    if (threadIdx.x == 0) *out = sum;
}

TEST(Emulation, TellsNeededBarriersFromOthers) {
    const auto twin = [](int sums) -> Twin {
        return [sums](const emulate::Launch& launch) -> std::vector<Matrix> {
            Matrix sum = poisoned(1, 1);
            launch(cuda::Grid{.x = 1, .threads = 96}, sums_kernel, sum.values.data(), sums);
            return {sum};
        };
    };
    EXPECT_EQ(run_twin(twin(3))[0](0, 0), 6 * (95.0 * 96 / 2));
    EXPECT_TRUE(every_barrier_matters("rows.cuh", twin(3)));
    const auto once = every_barrier_matters("rows.cuh", twin(1));
    EXPECT_FALSE(once);
    EXPECT_NE(std::string(once.message()).find("nothing changes without"), std::string::npos);
    const auto never = every_barrier_matters("rows.cuh", twin(0));
    EXPECT_FALSE(never);
    EXPECT_NE(std::string(never.message()).find("0 were reached"), std::string::npos);
}

/// Element (row, column) of rows of 64 as group_mma wants them.
int swizzled_place(int row, int column) {
    return row * 64 + (column / 8 ^ row % 8) * 8 + column % 8;
}

constexpr int group_threads = 128, group_rows = 64;

/// Two matrices of 64 rows in shared memory, of small integers that no product rounds.
struct GroupOperands {
    cuda::Bf16* left = reinterpret_cast<cuda::Bf16*>(cuda::dynamic_shared());
    cuda::Bf16* right = left + group_rows * 64;

    static float left_at(int row, int column) { return static_cast<float>((row + 3 * column) % 7); }
    static float right_at(int row, int column) {
        return static_cast<float>((5 * row + column) % 11 - 4);
    }
    void fill() const {
        for (int i = static_cast<int>(threadIdx.x); i < group_rows * 64; i += group_threads) {
            const int row = i / 64, column = i % 64;
            left[swizzled_place(row, column)] = cuda::to_bf16(left_at(row, column));
            right[swizzled_place(row, column)] = cuda::to_bf16(right_at(row, column));
        }
        cuda::show_to_group_mma();
    }
};

/// Runs a kernel of one group, which leaves c in `got` (64 x 64).
std::vector<float> run_group(
    const std::function<void(const GroupOperands&, float (&c)[8][4])>& use) {
    std::vector<float> got(group_rows * 64);
    constexpr std::size_t bytes = 2 * group_rows * 64 * sizeof(cuda::Bf16);
    emulate::run({.x = 1, .threads = group_threads, .shared_bytes = bytes}, {}, [&] {
        const GroupOperands operands;
        operands.fill();
        __syncthreads();
        float c[8][4] = {};
        use(operands, c);
        const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
        for (int n = 0; n < 8; ++n) {
            for (int i = 0; i < 4; ++i) {
                const int row = 16 * (thread / 32) + lane / 4 + 8 * (i / 2);
                got[static_cast<std::size_t>(row * 64 + 8 * n + 2 * (lane % 4) + i % 2)] = c[n][i];
            }
        }
    });
    return got;
}

void start_rows_times_rows(const GroupOperands& operands, float (&c)[8][4]) {
    for (int d = 0; d < 64; d += 16) {
        cuda::group_mma(c, operands.left + d, operands.right + d, d > 0);
    }
    cuda::commit_group_products();
}

std::vector<float> rows_times_rows() {
    std::vector<float> product(group_rows * 64);
    for (int i = 0; i < group_rows * 64; ++i) {
        for (int d = 0; d < 64; ++d) {
            product[static_cast<std::size_t>(i)] +=
                GroupOperands::left_at(i / 64, d) * GroupOperands::right_at(i % 64, d);
        }
    }
    return product;
}

TEST(Emulation, MakesAGroupsProducts) {
    EXPECT_EQ(run_group([](const GroupOperands& operands, float(&c)[8][4]) {
                  start_rows_times_rows(operands, c);
                  cuda::wait_for_group_products<0>();
              }),
              rows_times_rows());
    // Left operands in registers, rows of the right one that are not transposed; added to ones.
    const auto got = run_group([](const GroupOperands& operands, float(&c)[8][4]) {
        for (auto& tile : c) std::fill(std::begin(tile), std::end(tile), 1.0F);
        const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
        for (int k = 0; k < 64; k += 16) {
            std::uint32_t left[4];
            for (int i = 0; i < 4; ++i) {
                const int row = 16 * (thread / 32) + lane / 4 + 8 * (i % 2);
                const int column = k + 8 * (i / 2) + 2 * (lane % 4);
                left[i] = cuda::pack(GroupOperands::left_at(row, column),
                                     GroupOperands::left_at(row, column + 1));
            }
            cuda::group_mma(c, 0, left, operands.right + k * 64);
        }
        cuda::commit_group_products();
        cuda::wait_for_group_products<0>();
    });
    for (int i = 0; i < group_rows * 64; ++i) {
        float want = 1;
        for (int d = 0; d < 64; ++d) {
            want += GroupOperands::left_at(i / 64, d) * GroupOperands::right_at(d, i % 64);
        }
        ASSERT_EQ(got[static_cast<std::size_t>(i)], want) << i / 64 << ", " << i % 64;
    }
}

TEST(Emulation, MakesAGroupsProductsOnlyWhenTheyAreWaitedFor) {
    const auto unwaited = run_group([](const GroupOperands& operands, float(&c)[8][4]) {
        start_rows_times_rows(operands, c);
        cuda::wait_for_group_products<1>();
    });
    for (const float value : unwaited) EXPECT_TRUE(std::isnan(value));
    const auto overwritten = run_group([](const GroupOperands& operands, float(&c)[8][4]) {
        start_rows_times_rows(operands, c);
        operands.right[threadIdx.x] = cuda::to_bf16(64);
        cuda::wait_for_group_products<0>();
    });
    EXPECT_NE(overwritten, rows_times_rows());
}

/// The whole text of a file.
std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Emulation, IsAskedAboutTheBarriersOfEveryKernelFile) {
    std::string tests;
    for (const auto& entry :
         std::filesystem::directory_iterator(source_path("tests/tensor/cuda"))) {
        if (entry.path().extension() == ".cpp") tests += text_of(entry.path());
    }
    const std::regex question("every_barrier_matters\\(\\s*\"([a-z_]+\\.cuh)\"");
    std::set<std::string> asked;
    for (std::sregex_iterator at(tests.begin(), tests.end(), question), end; at != end; ++at) {
        asked.insert((*at)[1]);
    }
    for (const auto& entry : std::filesystem::directory_iterator(source_path("src/tensor/cuda"))) {
        const std::string name = entry.path().filename().string();
        if (!name.ends_with(".cuh") || name == "warp.cuh") continue;
        if (text_of(entry.path()).find("__syncthreads()") == std::string::npos) continue;
        EXPECT_TRUE(asked.contains(name)) << name << " has barriers that no test leaves out";
    }
}

TEST(Emulation, RoundsToBf16AsHardwareDoes) {
    const auto bits = [](float x) { return cuda::to_bf16(x).bits; };
    EXPECT_EQ(bits(1.0F), 0x3f80);
    EXPECT_EQ(bits(0x1.01p0F), 0x3f80) << "a tie goes to even";
    EXPECT_EQ(bits(0x1.03p0F), 0x3f82) << "a tie goes to even";
    EXPECT_EQ(bits(0x1.010002p0F), 0x3f81);
    EXPECT_EQ(bits(-INFINITY), 0xff80);
    EXPECT_EQ(bits(3.4e38F), 0x7f80) << "beyond the largest bf16";
    EXPECT_TRUE(std::isnan(cuda::to_float(cuda::to_bf16(NAN))));
    EXPECT_EQ(cuda::pack(1, -2), 0xc0003f80U);
    EXPECT_EQ(cuda::low_half(0xc0003f80U), 1);
    EXPECT_EQ(cuda::high_half(0xc0003f80U), -2);
}

}  // namespace
}  // namespace fedit::test
