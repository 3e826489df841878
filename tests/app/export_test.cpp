// tests/app/export_test.cpp: what `fedit export` makes of a run, and what it refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "fedit/io/json.h"
#include "tests/app/run_fedit.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::Outcome;
using test::run_fedit;
using test::says;

std::string slurp(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

/// A model, records, and a run of two rounds over them.
class Export : public testing::Test {
protected:
    void SetUp() override {
        const Outcome trained = run_fedit({"train",      "--model",
                                           model_,       "--data",
                                           data_,        "--output",
                                           run_,         "--rounds",
                                           "2",          "--num-clients",
                                           "3",          "--threads",
                                           "1",          "--dtype",
                                           "fp32",       "--lora-r",
                                           "2",          "--lora-target-modules",
                                           "all-linear", "--learning-rate",
                                           "0.01"});
        ASSERT_EQ(trained.code, 0) << trained.err;
    }

    Outcome run_export(std::vector<std::string> more) const {
        more.insert(more.begin(), {"export", "--output", output_.string()});
        return run_fedit(more);
    }
    double loss(const std::string& model, const std::vector<std::string>& more = {}) const {
        std::vector<std::string> words{"evaluate", "--model",         model,  "--data",
                                       data_,      "--dtype",         "fp32", "--threads",
                                       "1",        "--output-format", "json"};
        words.insert(words.end(), more.begin(), more.end());
        const Outcome scored = run_fedit(words);
        EXPECT_EQ(scored.code, 0) << scored.err;
        return scored.code == 0 ? Json::parse(scored.out, "out")["loss"].as_double() : NAN;
    }

    fs::path folder_ = test::test_folder();
    std::string model_ = test::write_tiny_model(folder_ / "model");
    std::string data_ = test::write_text(folder_ / "records.jsonl", test::tokenised_records(12));
    std::string run_ = (folder_ / "run").string();
    fs::path output_ = folder_ / "out";
};

TEST_F(Export, ARunOrACheckpointBecomesThePeftFolderThatTheRunWrote) {
    for (const std::string& from : {run_, run_ + "/checkpoints/round_000001.h5"}) {
        const Outcome outcome = run_export({"--adapter", from});
        ASSERT_EQ(outcome.code, 0) << outcome.err;
        const fs::path own =
            fs::path(run_) / "adapters" / (from == run_ ? "round_000002" : "round_000001");
        for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
            EXPECT_TRUE(slurp(output_ / name) == slurp(own / name)) << name;
        }
        fs::remove_all(output_);
    }
}

TEST_F(Export, AMergedModelEvaluatesAsBaseAndAdapterDo) {
    const double want = loss(model_, {"--adapter", run_ + "/adapter"});
    EXPECT_EQ(loss(model_, {"--adapter", run_ + "/checkpoints/round_000002.h5"}), want);
    EXPECT_GT(std::abs(loss(model_) - want), 1e-3 * want) << "the adapter matters";
    for (const std::string& from :
         {run_, run_ + "/adapter", run_ + "/checkpoints/round_000002.h5"}) {
        const Outcome outcome = run_export({"--adapter", from, "--merge", "--model", model_,
                                            "--save-dtype", "fp32", "--max-shard-size", "1e-5"});
        ASSERT_EQ(outcome.code, 0) << outcome.err;
        EXPECT_TRUE(fs::exists(output_ / "model.safetensors.index.json"));
        EXPECT_NEAR(loss(output_.string()), want, 1e-6 * want) << from;
        const Outcome seen = run_fedit({"inspect", output_.string()});
        EXPECT_EQ(seen.code, 0) << seen.err;
        EXPECT_TRUE(says(seen.out, {"model", "LlamaForCausalLM"}));
        fs::remove_all(output_);
    }
    const Outcome half =
        run_export({"--adapter", run_, "--merge", "--model", model_, "--save-dtype", "bf16"});
    ASSERT_EQ(half.code, 0) << half.err;
    // bf16 keeps 8 bits of each weight.
    EXPECT_NEAR(loss(output_.string()), want, 1e-2 * want);
}

TEST_F(Export, KilledOnTheWayItLeavesNoFolderOrAWholeOne) {
    const std::vector<std::string> words{
        "export",  "--output", output_.string(), "--adapter",        run_,
        "--merge", "--model",  model_,           "--max-shard-size", "1e-5"};
    ASSERT_EQ(run_fedit(words).code, 0);
    const auto whole = fs::file_size(output_ / "model.safetensors.index.json");
    fs::remove_all(output_);
    for (const char* fault :
         {"kill:created:1", "lose:written:1", "kill:synced:1", "kill:renamed:1"}) {
        const Outcome killed = test::run({.arguments = words,
                                          .environment = {{"FEDIT_TEST_FAULT", fault}},
                                          .input = "",
                                          .out = "",
                                          .program = FEDIT_FAULTY});
        EXPECT_EQ(killed.code, 128 + 9) << fault << killed.err;
        const bool arrived = std::string(fault) == "kill:renamed:1";
        ASSERT_EQ(fs::exists(output_), arrived) << fault;
        if (!arrived) continue;
        EXPECT_EQ(fs::file_size(output_ / "model.safetensors.index.json"), whole);
        EXPECT_EQ(run_fedit({"inspect", output_.string()}).code, 0);
    }
}

TEST_F(Export, LossesOfTokensAreWrittenForEachRecord) {
    const fs::path file = folder_ / "losses.jsonl";
    const double mean = loss(model_, {"--token-losses", file.string()});
    std::ifstream lines(file);
    double sum = 0;
    std::int64_t count = 0, records = 0;
    for (std::string line; std::getline(lines, line); ++records) {
        const Json losses = Json::parse(line, "line")["losses"];
        for (std::size_t i = 0; i < losses.size(); ++i, ++count) sum += losses[i].as_double();
    }
    EXPECT_EQ(records, 12);
    ASSERT_GT(count, 0);
    EXPECT_NEAR(sum / static_cast<double>(count), mean, 1e-6 * mean);
}

TEST_F(Export, RefusesWhatItCannotDoAndOverwritesNothing) {
    const auto refused = [&](const std::vector<std::string>& words,
                             const std::vector<std::string>& message) {
        const Outcome outcome = run_export(words);
        EXPECT_EQ(outcome.code, 2) << outcome.err;
        EXPECT_TRUE(says(outcome.err, message));
        EXPECT_FALSE(fs::exists(output_));
    };
    refused({}, {"fedit export needs --adapter PATH"});
    refused({"--adapter", run_, "--merge"}, {"--merge needs the base model", "--model FOLDER"});
    refused({"--adapter", run_, "--save-dtype", "bf16"}, {"--save-dtype bf16", "--merge"});
    refused({"--adapter", run_, "--merge", "--model", model_, "--save-dtype", "int8"},
            {"\"int8\"", "auto, fp32, bf16, fp16"});
    refused({"--adapter", run_ + "/adapter"}, {"a PEFT folder needs no export", "--merge"});
    refused({"--adapter", (folder_ / "none").string()}, {"there is no adapter", "none"});
    refused({"--adapter", run_ + "/run.h5"}, {"run.h5"});
    const std::string config =
        test::write_text(folder_ / "config.json", test::tiny_config(R"(, "head_dim": 10)"));
    const std::string other = (folder_ / "other").string();
    ASSERT_EQ(run_fedit({"init", "--model-config", config, "--output", other}).code, 0);
    refused({"--adapter", run_, "--merge", "--model", other}, {"model of another shape"});
    refused({"--adapter", run_ + "/adapter", "--merge", "--model", other}, {"has shape"});

    fs::create_directories(output_);
    std::ofstream(output_ / "mine") << "kept";
    const Outcome taken = run_export({"--adapter", run_});
    EXPECT_EQ(taken.code, 2);
    EXPECT_TRUE(says(taken.err, {"holds something already", "--output"}));
    EXPECT_EQ(slurp(output_ / "mine"), "kept");
}

}  // namespace
}  // namespace fedit
