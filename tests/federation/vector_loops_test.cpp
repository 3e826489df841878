// tests/federation/vector_loops_test.cpp: the loops of a round's end have the same bits on every
// instruction set that this processor has.
#include "federation/vector_loops.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <array>
#include <limits>
#include <vector>

#include "tests/federation/random_updates.h"

namespace fedit {
namespace {

/// Highway chooses only `target` while this lives.
class OnlyTarget {
public:
    explicit OnlyTarget(std::int64_t target) { choose(target); }
    ~OnlyTarget() { choose(0); }
    OnlyTarget(const OnlyTarget&) = delete;
    OnlyTarget& operator=(const OnlyTarget&) = delete;

private:
    static void choose(std::int64_t target) {
        hwy::SetSupportedTargetsForTest(target);  // 0: all
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
};

struct Results {
    std::vector<float> x;
    std::array<double, vector_loops::lanes> squares{}, differences{};
    std::uint64_t checksum = 0;
    std::vector<bool> near;
    bool operator==(const Results&) const = default;
};

/// Of each loop, for vectors that end within a step of eight, from a place within one.
Results run_loops() {
    constexpr std::size_t size = 1013, first = 3;
    static_assert(size <= vector_loops::step_values);
    const std::vector<float> global = test::random_update(1, size);
    Results results;
    results.x = test::random_update(2, size);
    std::vector<std::uint64_t> words(size);
    for (std::size_t i = 0; i < size; ++i) words[i] = (i * 0x9e3779b97f4a7c15U) >> (i % 60);
    vector_loops::add_squared_differences(results.x.data(), global.data(), size,
                                          results.differences.data());
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
        std::vector<float> client = global;
        results.near.push_back(vector_loops::all_near(client.data(), global.data(), size, 512));
        for (const float bad : {600 + global[at], std::numeric_limits<float>::quiet_NaN()}) {
            client[at] = bad;
            results.near.push_back(vector_loops::all_near(client.data(), global.data(), size, 512));
        }
    }
    vector_loops::server_step(results.x.data(), words.data(), size, first, 0x1.8p-52,
                              results.squares.data());
    results.checksum = vector_loops::checksum(results.x.data(), size, first);
    return results;
}

TEST(VectorLoops, HaveTheSameBitsOnEveryInstructionSet) {
    const Results want = run_loops();
    EXPECT_EQ(want.near,
              (std::vector<bool>{true, false, false, true, false, false, true, false, false}));
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
        const OnlyTarget only(target);
        EXPECT_TRUE(run_loops() == want) << hwy::TargetName(target);
    }
}

}  // namespace
}  // namespace fedit
