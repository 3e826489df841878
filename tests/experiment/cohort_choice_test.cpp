// tests/experiment/cohort_choice_test.cpp: what --cohort auto becomes.
#include "experiment/cohort_choice.h"

#include <gtest/gtest.h>

namespace fedit {
namespace {

/// 64 small clients on a CPU with room for all that is asked.
CohortFacts roomy() {
    return {.sampled = 64, .rows = 60, .device = "cpu", .memory = 8000, .bytes = [](int size) {
                return static_cast<std::size_t>(100 * size);
            }};
}

TEST(ChooseCohort, FillsAPass) {
    CohortFacts facts = roomy();
    EXPECT_EQ(choose_cohort(facts), 8);  // 512 rows / 60
    facts.rows = 200;
    EXPECT_EQ(choose_cohort(facts), 2);
    facts.rows = 300;  // two would be more than a pass
    EXPECT_EQ(choose_cohort(facts), 1);
    facts.rows = 5000;
    EXPECT_EQ(choose_cohort(facts), 1);
    facts.device = "cuda";
    facts.rows = 2000;
    EXPECT_EQ(choose_cohort(facts), 4);
}

TEST(ChooseCohort, LeavesEightCohortsForRanksToShare) {
    CohortFacts facts = roomy();
    facts.rows = 1;
    for (const auto& [sampled, size] :
         {std::pair<std::size_t, int>{0, 1}, {1, 1}, {5, 1}, {15, 1}, {16, 2}, {50, 6}, {64, 8}}) {
        facts.sampled = sampled;
        EXPECT_EQ(choose_cohort(facts), size) << sampled;
    }
}

TEST(ChooseCohort, TakesItsPartOfTheMemory) {
    CohortFacts facts = roomy();
    facts.memory = 8 * 399;  // an eighth on a CPU: three of 100 bytes
    EXPECT_EQ(choose_cohort(facts), 3);
    facts.memory = 1;  // one client is planned in any case
    EXPECT_EQ(choose_cohort(facts), 1);
    facts.device = "cuda";
    facts.memory = 2 * 399;
    EXPECT_EQ(choose_cohort(facts), 3);
}

TEST(LargestCohort, BoundsWhateverClientsMeet) {
    const std::vector<PassSize> clients{{10, 9}, {40, 1}, {20, 5}};
    const auto sizes = [&](int size) {
        std::vector<std::pair<std::int64_t, std::int64_t>> list;
        for (const PassSize& member : largest_cohort(clients, size)) {
            list.emplace_back(member.rows, member.target_rows);
        }
        return list;
    };
    using Sizes = std::vector<std::pair<std::int64_t, std::int64_t>>;
    EXPECT_EQ(sizes(1), (Sizes{{40, 9}}));
    EXPECT_EQ(sizes(2), (Sizes{{40, 9}, {20, 5}}));
    EXPECT_EQ(sizes(8), (Sizes{{40, 9}, {20, 5}, {10, 1}}));
}

}  // namespace
}  // namespace fedit
