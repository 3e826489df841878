// tests/app/train_refusals_test.cpp: output folders in which `fedit train` does not go on, and
// disks on which it cannot.
#include <gtest/gtest.h>

#include <iostream>

#include "fedit/experiment/run_lock.h"
#include "fedit/io/safetensors.h"
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

TEST_F(TrainRefusals, ALocalRunHasNoAdapterOfAllClients) {
    const Outcome trained = run_fedit(train({"--mode", "local"}));
    ASSERT_EQ(trained.code, 0) << trained.err;
    const std::string checkpoint = run_ + "/checkpoints/round_000001.h5";
    const Words why{"the run was local", "round_000001.h5", "RUN/adapter/client_000000"};

    const Outcome exported =
        run_fedit({"export", "--adapter", run_, "--output", (folder_ / "peft").string()});
    const Outcome evaluated = run_fedit({"evaluate", "--model", model_, "--adapter", checkpoint,
                                         "--data", data_, "--dtype", "fp32", "--threads", "1"});
    const Outcome of_a_client =
        run_fedit({"evaluate", "--model", model_, "--adapter", run_ + "/adapter/client_000001",
                   "--data", data_, "--dtype", "fp32", "--threads", "1"});

    EXPECT_EQ(exported.code, 2);
    EXPECT_TRUE(says(exported.err, why));
    EXPECT_EQ(evaluated.code, 2);
    EXPECT_TRUE(says(evaluated.err, why));
    EXPECT_EQ(of_a_client.code, 0) << of_a_client.err;
}

TEST_F(TrainRefusals, ALocalClientThatIsLeftOutKeepsWhatItHad) {
    // AdamW moves a number by the learning rate: one step of the first client passes the screen
    // (512 at most), the four of the second do not.
    const fs::path clients = folder_ / "clients";
    fs::create_directories(clients);
    test::write_text(clients / "local_training_0.json", test::tokenised_records(2));
    test::write_text(clients / "local_training_1.json", test::tokenised_records(8));
    const Outcome outcome = run_fedit({"train",
                                       "--model",
                                       model_,
                                       "--data",
                                       clients.string(),
                                       "--output",
                                       run_,
                                       "--rounds",
                                       "1",
                                       "--mode",
                                       "local",
                                       "--learning-rate",
                                       "400",
                                       "--batch-size",
                                       "2",
                                       "--micro-batch-size",
                                       "2",
                                       "--lora-dropout",
                                       "0",
                                       "--threads",
                                       "1",
                                       "--dtype",
                                       "fp32",
                                       "--progress",
                                       "none"});

    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(says(outcome.err, {"client 1 is left out of this round", "1 rejected"}));
    const auto moved = [&](const char* client) {
        const SafetensorsFile file(fs::path(run_) / "adapter" / client /
                                   "adapter_model.safetensors");
        for (const auto& [name, tensor] : file.tensors()) {
            if (name.find("lora_B") == std::string::npos) continue;
            for (const float value : file.read_floats(name)) {
                if (value != 0) return true;
            }
        }
        return false;
    };
    EXPECT_TRUE(moved("client_000000"));
    EXPECT_FALSE(moved("client_000001"));
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
