// tests/app/memory_plan_test.cpp: what a run's plan says is enough, and not absurdly much.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>

#include "fedit/experiment/run_log.h"
#include "tests/app/run_fedit.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

/// "memory of a node: 208.8 MiB = ..." in bytes.
double planned_bytes(const std::string& said) {
    const std::string before = "memory of a node: ";
    std::istringstream text(said.substr(said.find(before) + before.size()));
    double number = 0;
    std::string unit;
    text >> number >> unit;
    const std::map<std::string, int> powers{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
    return std::ldexp(number, powers.at(unit));
}

class MemoryPlan : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(MemoryPlan, BoundsTheResidentSizeFromAbove) {
    const auto output = test::test_folder() / "run";
    const auto data = [](const char* name) {
        return test::source_path("data/" + std::string(name)).string();
    };
    std::vector<std::string> words{"train",
                                   "--model",
                                   data("tiny-llama"),
                                   "--data",
                                   data("test.jsonl"),
                                   "--output",
                                   output.string(),
                                   "--rounds",
                                   "1",
                                   "--num-clients",
                                   "3",
                                   "--client-fraction",
                                   "0.3",
                                   "--local-steps",
                                   "1",
                                   "--progress",
                                   "none"};
    words.insert(words.end(), GetParam().begin(), GetParam().end());

    const test::Outcome outcome = test::run_fedit(words);

    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const double planned = planned_bytes(outcome.err);
    const RunLog log = RunLog::read(Hdf5Reader(output / "run.h5", FileKind::run_log));
    const auto peak = static_cast<double>(log.rounds.at(0).peak_memory_bytes);
    EXPECT_LT(peak, planned) << outcome.err;
    EXPECT_LT(planned, 3 * peak) << outcome.err;
}

INSTANTIATE_TEST_SUITE_P(
    Runs, MemoryPlan,
    testing::Values(
        std::vector<std::string>{"--threads", "1", "--batch-size", "2", "--micro-batch-size", "1"},
        std::vector<std::string>{"--threads", "2", "--batch-size", "64", "--micro-batch-size", "64",
                                 "--lora-r", "64", "--lora-target-modules", "all-linear"},
        std::vector<std::string>{"--threads", "1", "--batch-size", "16", "--tune", "full"},
        std::vector<std::string>{"--threads", "1", "--batch-size", "2", "--micro-batch-size", "1",
                                 "--eval-data", test::source_path("data/test.jsonl").string(),
                                 "--eval-batch-size", "80"}));

}  // namespace
}  // namespace fedit
