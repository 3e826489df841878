// tests/app/commands_test.cpp: the program as a user runs it: help, tokens, new models, evaluation.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "fedit/io/json.h"
#include "fedit/tensor/cuda_devices.h"
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

std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> all;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
}

TEST(Program, HelpsOnStandardOutput) {
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{}, {"--help"}, {"train", "--help"}, {"--version"}}) {
        const Outcome outcome = run_fedit(words);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        EXPECT_TRUE(says(outcome.out, {"fedit"}));
    }
}

TEST(Program, HelpsWhereMpiDoesNotStart) {
    const auto without_mpi = [](const std::vector<std::string>& words) {
        return test::run({.arguments = words,
                          .environment = {{"OMPI_MCA_pml", "no-such-component"}},
                          .input = "",
                          .out = "",
                          .program = ""});
    };
    for (const std::vector<std::string>& words : {std::vector<std::string>{"--help"},
                                                  {"--version"},
                                                  {"train", "--help"},
                                                  {"train", "--dump-config"}}) {
        const Outcome outcome = without_mpi(words);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        EXPECT_FALSE(outcome.out.empty());
    }
    EXPECT_NE(without_mpi({"doctor"}).code, 0) << "it does not start";
}

TEST(Program, PrintsTheDocumentedOptions) {
    const Outcome outcome = run_fedit({"options"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.out, slurp(test::source_path("docs/options.md")))
        << "write it anew: fedit options > docs/options.md";
}

TEST(Program, SaysOnceWhatIsWrongAndEndsWithTwo) {
    const Outcome outcome = run_fedit({"train", "--lora-rr", "3"});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.err.find("fedit: error: "), outcome.err.rfind("fedit: error: "));
    EXPECT_TRUE(says(outcome.err, {"fedit: error: there is no option --lora-rr"}));
    EXPECT_EQ(outcome.err.find("MPI_ABORT"), std::string::npos);
}

TEST(Program, ReadsTheShippedQuickstartSettings) {
    const Outcome outcome = run_fedit(
        {"train", "--config", test::source_path("data/quickstart.ini").string(), "--dump-config"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
}

class Tokenize : public testing::TestWithParam<const char*> {};
TEST_P(Tokenize, GivesTheIdsOfTheReference) {
    const std::string name = GetParam();
    const fs::path fixtures = test::shared_path("fixtures/tokenizers");
    const fs::path strings = fixtures / "strings.jsonl";
    FEDIT_REQUIRE_SHARED(strings);
    fs::path folder = test::shared_path("data/models/" + name);
    if (!fs::exists(folder)) {
        folder = test::test_folder();
        fs::copy_file(fixtures / (name + ".tokenizer.json"), folder / "tokenizer.json");
    }

    const Outcome outcome =
        run_fedit({"tokenize", "--tokenizer", folder.string(), "--input", strings.string(),
                   "--no-special-tokens", "--output-format", "json"});

    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const std::vector<std::string> got = lines(outcome.out);
    const std::vector<std::string> want = lines(slurp(fixtures / (name + ".expected.jsonl")));
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(Json::parse(got[i], "got")["ids"].dump(),
                  Json::parse(want[i], "want")["ids"].dump())
            << "string " << i;
    }
}
INSTANTIATE_TEST_SUITE_P(References, Tokenize, testing::Values("llama2", "story-656k"),
                         [](const auto& param_info) {
                             return std::string(param_info.param) == "llama2" ? "llama2" : "story";
                         });

TEST(TokenizeText, ReadsStandardInputAndShowsEachToken) {
    const fs::path folder = test::source_path("data/tiny-llama");
    const Outcome outcome =
        test::run({.arguments = {"tokenize", "--tokenizer", folder.string(), "--input", "-"},
                   .environment = {},
                   .input = "\"a b\"\n",
                   .out = "",
                   .program = ""});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(says(outcome.out, {"\"a b\": ", " tokens\n", "  byte 0"}));
}

/// `got` has the numbers of `want`, and the sums that the reference does not spell.
void expect_scores(const Json& got, const Json& want) {
    const double loss = want["loss"].as_double();
    EXPECT_NEAR(got["loss"].as_double(), loss, 1e-6 * loss);
    EXPECT_NEAR(got["perplexity"].as_double(), std::exp(loss), 1e-5 * std::exp(loss));
    EXPECT_EQ(got["labelled_tokens"].as_int(), want["labelled_tokens"].as_int());
    EXPECT_EQ(got["records_without_label"].as_int(), want["records_without_label"].as_int());
    EXPECT_GT(got["records"].as_int(), 0);
}

class Evaluate : public testing::TestWithParam<const char*> {};
TEST_P(Evaluate, AgreesWithTheReferenceByCategory) {
    const std::string mode = GetParam();
    const fs::path reference = test::shared_path("fixtures/story/evaluate.json");
    FEDIT_REQUIRE_SHARED(reference);
    std::vector<std::string> words{"evaluate",
                                   "--model",
                                   test::shared_path("data/models/story-656k").string(),
                                   "--data",
                                   test::shared_path("data/dolly-15k/clients-10").string(),
                                   "--prompt-template",
                                   test::shared_path("data/prompts/alpaca.json").string(),
                                   "--dtype",
                                   "fp32",
                                   "--threads",
                                   "1",
                                   "--output-format",
                                   "json"};
    if (mode == "train_on_inputs") words.emplace_back("--train-on-inputs");

    const Outcome outcome = run_fedit(words);

    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json got = Json::parse(outcome.out, "standard output");
    const Json want = Json::parse_file(reference)[mode];
    expect_scores(got, want);
    EXPECT_EQ(got["by_category"].size(), want["by_category"].size());
    for (const std::string& category : want["by_category"].keys()) {
        expect_scores(got["by_category"][category], want["by_category"][category]);
    }
}
INSTANTIATE_TEST_SUITE_P(Modes, Evaluate, testing::Values("response_only", "train_on_inputs"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST(Init, MakesAModelThatInspectAndEvaluateRead) {
    const fs::path folder = test::test_folder();
    const std::string config = test::write_text(folder / "config.json", test::tiny_config());
    const std::string model = (folder / "model").string();
    const Outcome made = run_fedit({"init", "--model-config", config, "--output", model});
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_EQ(slurp(fs::path(model) / "config.json"), test::tiny_config());

    const Outcome seen = run_fedit({"inspect", model, "--output-format", "json"});
    ASSERT_EQ(seen.code, 0) << seen.err;
    const Json facts = Json::parse(seen.out, "standard output");
    EXPECT_EQ(facts["kind"].as_string(), "model");
    EXPECT_EQ(facts["vocab_size"].as_int(), 40);

    const std::string data = test::write_text(folder / "records.jsonl", test::tokenised_records(9));
    const Outcome scored = run_fedit({"evaluate", "--model", model, "--data", data});
    EXPECT_EQ(scored.code, 0) << scored.err;
    EXPECT_TRUE(says(scored.out, {"all", "even", "odd"}));
}

TEST(Init, IsAPureFunctionOfConfigAndSeed) {
    const fs::path folder = test::test_folder();
    const std::string config = test::write_text(folder / "config.json", test::tiny_config());
    const auto weights = [&](const std::string& name, const std::string& seed) {
        const std::string model = (folder / name).string();
        const Outcome made =
            run_fedit({"init", "--model-config", config, "--output", model, "--seed", seed});
        EXPECT_EQ(made.code, 0) << made.err;
        return slurp(fs::path(model) / "model.safetensors");
    };
    const std::string first = weights("a", "1");
    EXPECT_FALSE(first.empty());
    EXPECT_TRUE(first == weights("b", "1"));
    EXPECT_FALSE(first == weights("c", "2"));
}

TEST(Train, LeavesARunThatInspectShowsAndEvaluateContinues) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::string data =
        test::write_text(folder / "records.jsonl", test::tokenised_records(12));
    const std::string run = (folder / "run").string();
    const Outcome trained = run_fedit(
        {"train", "--model",  model, "--data",          data,  "--output",  run, "--eval-data",
         data,    "--rounds", "2",   "--num-clients",   "3",   "--threads", "1", "--dtype",
         "fp32",  "--lora-r", "2",   "--learning-rate", "0.01"});
    ASSERT_EQ(trained.code, 0) << trained.err;

    const Outcome seen = run_fedit({"inspect", run, "--output-format", "json"});
    ASSERT_EQ(seen.code, 0) << seen.err;
    const Json facts = Json::parse(seen.out, "standard output");
    EXPECT_EQ(facts["kind"].as_string(), "run");
    EXPECT_EQ(facts["last_life"].as_string(), "done");
    EXPECT_EQ(facts["rounds"].size(), 2U);
    EXPECT_EQ(facts["clients"].size(), 3U);
    EXPECT_EQ(facts["lives"][0]["end_reason"].as_string(), "done");
    for (const std::string part : {"run.h5", "checkpoints/round_000002.h5", "adapter"}) {
        const Outcome shown = run_fedit({"inspect", run + "/" + part});
        EXPECT_EQ(shown.code, 0) << shown.err;
        EXPECT_TRUE(says(shown.out, {"kind", "path"}));
    }

    const Outcome scored =
        run_fedit({"evaluate", "--model", model, "--data", data, "--adapter", run + "/adapter",
                   "--output-format", "json", "--threads", "1", "--dtype", "fp32"});
    ASSERT_EQ(scored.code, 0) << scored.err;
    EXPECT_EQ(Json::parse(scored.out, "standard output")["loss"].as_double(),
              facts["rounds"][1]["eval_loss"].as_double())
        << "the adapter folder holds the bits that the run evaluated";
}

TEST(Train, TakesAFolderOfClientsOneOfThemWithoutRecords) {
    const fs::path folder = test::test_folder(), clients = folder / "clients";
    const std::string model = test::write_tiny_model(folder / "model");
    fs::create_directories(clients);
    test::write_text(clients / "local_training_0.json", test::tokenised_records(4));
    test::write_text(clients / "local_training_1.json", "[]");
    test::write_text(clients / "local_training_2.json", test::tokenised_records(3));
    const Outcome trained =
        run_fedit({"train", "--model", model, "--data", clients.string(), "--output",
                   (folder / "run").string(), "--rounds", "1", "--threads", "1", "--lora-r", "2"});
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_TRUE(says(trained.err, {"clients without a trainable record are never sampled: 1",
                                   "3 clients (files) hold 7 trainable records; 2 sampled a round",
                                   "next: fedit evaluate", "--data HELD_OUT.jsonl"}));
}

TEST(Bench, ReportsTokensASecondAndTheShareOfTheProductRate) {
    const fs::path folder = test::test_folder();
    const std::string config = test::write_text(folder / "config.json", test::tiny_config());
    const Outcome outcome =
        run_fedit({"bench", "--model-config", config, "--batch-size", "4", "--micro-batch-size",
                   "2", "--steps", "2", "--cutoff-len", "32", "--output-format", "json",
                   "--threads", "1", "--dtype", "fp32"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json facts = Json::parse(outcome.out, "standard output");
    EXPECT_GT(facts["tokens_per_second"].as_double(), 0);
    EXPECT_GT(facts["share_of_product_rate"].as_double(), 0);
    EXPECT_GT(facts["share_of_sustained_rate"].as_double(), 0);
    EXPECT_GT(facts["peak_memory_bytes"].as_int(), 0);
    EXPECT_TRUE(facts["joules_per_step"].is_null()) << "no driver counts a CPU's";
    // layers: q 16 + k 8 + v 8 + o 16 columns, gate, up and down 32 each, times 16 rows, 2 layers
    const double weights = 2 * 16.0 * (16 + 8 + 8 + 16 + 3 * 32);
    EXPECT_EQ(facts["flop_per_step"].as_double(),
              4 * weights * facts["tokens_per_step"].as_double() +
                  4 * 40 * 16.0 * facts["labelled_per_step"].as_double());
}

/// Facts of a bench of two steps of a tiny model, with these words besides.
Json bench_facts(const std::vector<std::string>& more) {
    const std::string config =
        test::write_text(test::test_folder() / "config.json", test::tiny_config());
    std::vector<std::string> words{
        "bench", "--model-config",     config, "--steps",      "2",   "--batch-size",
        "4",     "--micro-batch-size", "2",    "--cutoff-len", "32",  "--output-format",
        "json",  "--threads",          "1",    "--dtype",      "fp32"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = run_fedit(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return Json::parse(outcome.out, "standard output");
}

TEST(Bench, GivesEveryMemberOfACohortItsOwnBatch) {
    const Json alone = bench_facts({}), together = bench_facts({"--cohort", "3"});
    EXPECT_EQ(alone["cohort"].as_int(), 1);
    EXPECT_EQ(together["cohort"].as_int(), 3);
    EXPECT_GT(together["tokens_per_step"].as_int(), 2 * alone["tokens_per_step"].as_int());
    EXPECT_GT(together["planned_memory_bytes"].as_int(), alone["planned_memory_bytes"].as_int());
    // The first member's batch is the same; other members change its bits at most.
    EXPECT_NEAR(together["loss_last"].as_double(), alone["loss_last"].as_double(), 1e-4);
}

TEST(Bench, ProfileTellsPhasesAndOperationsThatAddUpToTheStep) {
    const Json facts = bench_facts({"--profile", "--cohort", "2"});
    const double step = facts["profiled_step_seconds"].as_double();
    EXPECT_GT(step, 0);
    double seconds = 0;
    std::vector<std::string> phases;
    for (std::size_t i = 0; i < facts["phases"].size(); ++i) {
        const Json row = facts["phases"][i];
        phases.push_back(row["phase"].as_string());
        seconds += row["seconds"].as_double();
        EXPECT_NEAR(row["share"].as_double(), row["seconds"].as_double() / step, 1e-9);
    }
    EXPECT_EQ(phases, (std::vector<std::string>{"forward", "loss", "backward", "optimizer",
                                                "memory", "outside"}));
    EXPECT_NEAR(seconds, step, 1e-9 * step);
    EXPECT_GE(facts["phases"][5]["seconds"].as_double(), 0) << "operations took more than the step";

    std::map<std::string, double> calls;
    double before = step, of_operations = 0;
    for (std::size_t i = 0; i < facts["operations"].size(); ++i) {
        const Json row = facts["operations"][i];
        calls[row["operation"].as_string()] = row["calls"].as_double();
        EXPECT_LE(row["seconds"].as_double(), before) << "the longest come first";
        before = row["seconds"].as_double();
        of_operations += before;
        const bool product = row["operation"].as_string() == "linear";
        if (!product) continue;
        EXPECT_GT(row["flops_per_second"].as_double(), 0);
        EXPECT_GT(row["share_of_product_rate"].as_double(), 0);
    }
    EXPECT_LE(of_operations, step);
    // Two passes a step (4 records in micro-batches of 2), of both clients at once; 2 layers; each
    // client takes its own optimizer step.
    EXPECT_EQ(calls["linear"], 2 * 2 * 4);
    EXPECT_EQ(calls["attention"], 2 * 2);
    EXPECT_EQ(calls["attention_backward"], 2 * 2);
    EXPECT_EQ(calls["cross_entropy"], 2);
    EXPECT_EQ(calls["adamw"], 2);
    EXPECT_EQ(calls["squared_norm"], 2);
}

TEST(Bench, WithoutProfileThereIsNone) {
    EXPECT_FALSE(bench_facts({}).has("operations"));
}

TEST(Doctor, NamesWhatTheMachineOffers) {
    const Outcome text = run_fedit({"doctor"});
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_TRUE(
        says(text.out, {"Open MPI", "ranks", "cores", "/dev/shm", "instruction set", "GPU"}));
    const Outcome json = run_fedit({"doctor", "--output-format", "json"});
    ASSERT_EQ(json.code, 0) << json.err;
    const Json facts = Json::parse(json.out, "standard output");
    EXPECT_EQ(facts["ranks"].size(), 1U);
    const CudaDevices cuda = find_cuda_devices();
    EXPECT_EQ(facts["gpus"].size(), cuda.devices.size());
    EXPECT_EQ(facts["cuda"].as_bool(), !cuda.devices.empty());
    EXPECT_EQ(facts["cuda_trouble"].as_string(), cuda.trouble);
    EXPECT_TRUE(says(text.out, {cuda.trouble, cuda.libraries}));
    EXPECT_TRUE(says(text.out, {"NCCL       " + facts["nccl"].as_string()}));
    EXPECT_EQ(facts["ranks"][0]["visible_gpus"].as_int(), cuda_device_count());
    EXPECT_EQ(facts["ranks"][0]["gpu"].as_int(), cuda_device_count() > 0 ? 0 : -1);
}

}  // namespace
}  // namespace fedit
