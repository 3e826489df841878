// tests/app/train_refusals_test.cpp: output folders in which `fedit train` does not go on, and
// disks on which it cannot.
#include <gtest/gtest.h>

#include <iostream>

#include "fedit/experiment/run_lock.h"
#include "tests/app/run_fedit.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using test::run_fedit;
using test::says;
using Words = std::vector<std::string>;

/// A tiny run of two clients in the test's own folder; `fedit train` with these words besides.
class TrainRefusals : public testing::Test {
protected:
    Words train(const Words& more = {}) const {
        Words words{"train",    "--model",  model_,       "--data",    data_,
                    "--output", run_,       "--rounds",   "1",         "--num-clients",
                    "2",        "--lora-r", "2",          "--threads", "1",
                    "--dtype",  "fp32",     "--progress", "none"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }

    const fs::path folder_ = test::test_folder();
    const std::string model_ = test::write_tiny_model(folder_ / "model");
    const std::string data_ =
        test::write_text(folder_ / "records.jsonl", test::tokenised_records(8));
    const std::string run_ = (folder_ / "run").string();
};

TEST_F(TrainRefusals, TwoJobsInOneFolder) {
    fs::create_directories(run_);
    const Log log(std::cerr, 0, Verbosity::quiet);
    const RunLock held(fs::path(run_) / "run.lock", RunLock::Existing::respect, log);

    const Outcome outcome = run_fedit(train());

    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(says(outcome.err, {"another job works in this folder", "run.lock", "--force"}));
}

TEST_F(TrainRefusals, AResumeWithAnotherIdentityNamesEveryDifference) {
    const Outcome first = run_fedit(train());
    ASSERT_EQ(first.code, 0) << first.err;

    const Outcome second = run_fedit(train({"--seed", "5", "--learning-rate", "0.5"}));

    EXPECT_EQ(second.code, 2);
    EXPECT_TRUE(says(second.err, {"seed is 5 now, but the run was made with 0",
                                  "learning-rate is 0.5 now, but the run was made with 0.0003",
                                  "give another --output"}));
}

TEST_F(TrainRefusals, ARunWhoseCheckpointsAreAllDamaged) {
    const Outcome first = run_fedit(train());
    ASSERT_EQ(first.code, 0) << first.err;
    for (const auto& entry : fs::directory_iterator(fs::path(run_) / "checkpoints")) {
        fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
    }

    const Outcome second = run_fedit(train());

    EXPECT_EQ(second.code, 2);
    EXPECT_TRUE(says(second.err, {"damaged", "round_000001.h5", "give another --output"}));
}

TEST_F(TrainRefusals, AFullDiskIsAFailureThatNamesTheFile) {
    const std::string config = test::write_text(folder_ / "config.json", test::tiny_config());
    for (const Words& words :
         {train(), Words{"init", "--model-config", config, "--output", run_ + "-model"}}) {
        const Outcome outcome = test::run({.arguments = words,
                                           .environment = {},
                                           .input = "",
                                           .out = "",
                                           .program = FEDIT_ON_A_FULL_DISK});
        EXPECT_EQ(outcome.code, 1) << words.front();
        EXPECT_TRUE(says(outcome.err, {"fedit: error: No space left on device", run_}));
    }
    EXPECT_FALSE(fs::exists(run_ + "-model"));
}

}  // namespace
}  // namespace fedit
