// tests/app/generate_test.cpp: `fedit generate` and the answers of `fedit evaluate`, as a user runs
// them.
#include <gtest/gtest.h>

#include <algorithm>
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
using Words = std::vector<std::string>;

Words lines(const std::string& text) {
    Words all;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
}

Outcome run_with_input(const Words& words, const std::string& input) {
    return test::run(
        {.arguments = words, .environment = {}, .input = input, .out = "", .program = ""});
}

/// `fedit generate` with the story model.
Words story(const Words& more, const std::string& max_new_tokens = "60") {
    Words words{"generate",
                "--model",
                test::shared_path("data/models/story-656k").string(),
                "--threads",
                "1",
                "--dtype",
                "fp32",
                "--max-new-tokens",
                max_new_tokens};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

class Generate : public testing::Test {
protected:
    void SetUp() override {
        FEDIT_REQUIRE_SHARED(test::shared_path("data/models/story-656k"));
        FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/story/evaluate.json"));
        want_.emplace(
            Json::parse_file(test::shared_path("fixtures/story/evaluate.json"))["generate"]);
    }
    /// The fixture's prompts, one JSON string a line.
    std::string prompts() const {
        std::string text;
        for (std::size_t i = 0; i < want_->size(); ++i) {
            text += (*want_)[i]["prompt"].dump() + '\n';
        }
        return text;
    }
    void expect_fixture(const std::string& out) const {
        const Words got = lines(out);
        ASSERT_EQ(got.size(), want_->size()) << out;
        for (std::size_t i = 0; i < got.size(); ++i) {
            const Json answer = Json::parse(got[i], "standard output");
            const Json want = (*want_)[i];
            EXPECT_EQ(answer["prompt_ids"].dump(), want["prompt_ids"].dump());
            EXPECT_EQ(answer["new_ids"].dump(), want["new_ids"].dump());
            const bool ended = want["new_ids"].size() < 60;
            EXPECT_EQ(answer["finish_reason"].as_string(), ended ? "stop" : "length");
            EXPECT_EQ(answer["text"].as_string(), want["text"].as_string());
        }
    }
    std::optional<Json> want_;
};

TEST_F(Generate, AnswersAFileOfPromptsAsTheReferenceDoes) {
    const std::string file = test::write_text(test::test_folder() / "prompts.jsonl", prompts());
    const Outcome outcome = run_fedit(story({"--input", file, "--output-format", "json"}));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    expect_fixture(outcome.out);
    const Outcome piped = run_with_input(
        story({"--input", "-", "--output-format", "json", "--eval-batch-size", "2"}), prompts());
    EXPECT_EQ(piped.out, outcome.out);
    std::string ids;
    for (std::size_t i = 0; i < want_->size(); ++i) ids += (*want_)[i]["prompt_ids"].dump() + '\n';
    const Outcome from_ids =
        run_with_input(story({"--input", "-", "--output-format", "json"}), ids);
    EXPECT_EQ(from_ids.out, outcome.out);
}

TEST_F(Generate, AnswersOnePromptAsTextAndAsJson) {
    const Outcome text = run_fedit(story({"--prompt", "Once upon a time"}));
    ASSERT_EQ(text.code, 0) << text.err;
    EXPECT_EQ(text.out, (*want_)[0]["text"].as_string() + "\n");
    const Outcome json =
        run_fedit(story({"--prompt", "Once upon a time", "--output-format", "json"}));
    EXPECT_EQ(Json::parse(json.out, "out")["new_ids"].dump(), (*want_)[0]["new_ids"].dump());
}

TEST_F(Generate, HoldsAConversationOnStandardInput) {
    const Outcome outcome =
        run_with_input(story({"--interactive", "--plain"}), "Once upon a time\n\nThe big dog\n");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out,
              (*want_)[0]["text"].as_string() + "\n" + (*want_)[2]["text"].as_string() + "\n");
    EXPECT_EQ(outcome.err, "") << "no invitation where nobody types";
    const Outcome instructed =
        run_with_input(story({"--interactive", "--output-format", "json"}, "3"), "Tell.\n");
    const Outcome asked =
        run_fedit(story({"--instruction", "Tell.", "--output-format", "json"}, "3"));
    ASSERT_EQ(instructed.code, 0) << instructed.err;
    EXPECT_EQ(instructed.out, asked.out);
}

TEST_F(Generate, PutsRecordsThroughThePromptTemplate) {
    const std::string data =
        test::write_text(test::test_folder() / "records.jsonl",
                         R"({"instruction": "Say it.", "input": "A word.", "output": ""})"
                         "\n"
                         R"({"instruction": "Two\nlines.", "output": "x"})"
                         "\n");
    const Outcome records = run_fedit(story({"--data", data, "--output-format", "json"}, "4"));
    const Outcome single = run_fedit(story(
        {"--instruction", "Say it.", "--context", "A word.", "--output-format", "json"}, "4"));
    ASSERT_EQ(records.code, 0) << records.err;
    ASSERT_EQ(single.code, 0) << single.err;
    ASSERT_EQ(lines(records.out).size(), 2U);
    EXPECT_EQ(lines(records.out)[0] + '\n', single.out);
    const Outcome text = run_fedit(story({"--data", data}, "4"));
    EXPECT_TRUE(says(text.out, {"--- 0: Say it.\n", "--- 1: Two\n"}));
}

TEST_F(Generate, RefusesRecordsThatAskNothing) {
    const std::string data = test::write_text(test::test_folder() / "texts.jsonl",
                                              "{\"text\": \"It was a dark night.\"}\n");
    const Outcome outcome = run_fedit(story({"--data", data}));
    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(says(outcome.err, {"plain text", "record 0", "--input"}));
}

TEST_F(Generate, SamplesByTheSeedAndStopsWhereItIsTold) {
    const auto sampled = [&](const std::string& seed) {
        return run_fedit(story({"--prompt", "The big dog", "--temperature", "0.9", "--top-k", "40",
                                "--top-p", "0.95", "--repetition-penalty", "1.1", "--seed", seed}))
            .out;
    };
    const std::string first = sampled("1");
    EXPECT_EQ(sampled("1"), first);
    EXPECT_NE(sampled("2"), first);
    const Outcome stopped = run_fedit(story({"--prompt", "Once upon a time", "--stop-strings",
                                             R"(["\n\n", "mom, da"])", "--output-format", "json"}));
    const Json answer = Json::parse(stopped.out, "out");
    EXPECT_TRUE(answer["text"].as_string().ends_with("with her "));
    EXPECT_EQ(answer["finish_reason"].as_string(), "stop");
}

TEST_F(Generate, TakesAnAdapterFromAFolder) {
    const fs::path adapter = test::shared_path("fixtures/story/adapter");
    FEDIT_REQUIRE_SHARED(adapter);
    const Words words = story({"--prompt", "Once upon a time", "--output-format", "json"});
    Words adapted = words;
    adapted.insert(adapted.end(), {"--adapter", adapter.string()});
    const Outcome with = run_fedit(adapted), without = run_fedit(words);
    ASSERT_EQ(with.code, 0) << with.err;
    EXPECT_NE(with.out, without.out);
}

TEST(GenerateTokens, OfAModelWithoutATokenizerHaveNoText) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::string data = test::write_text(folder / "d.jsonl", test::tokenised_records(3));
    const Outcome outcome = run_fedit({"generate", "--model", model, "--data", data,
                                       "--max-new-tokens", "5", "--output-format", "json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Words answers = lines(outcome.out);
    ASSERT_EQ(answers.size(), 3U);
    const Json first = Json::parse(answers.front(), "out");
    EXPECT_EQ(first["prompt_ids"].dump(), "[1,3]");
    EXPECT_EQ(first["new_ids"].size(), 5U);
    EXPECT_TRUE(first["text"].is_null());
    const Outcome text =
        run_fedit({"generate", "--model", model, "--data", data, "--max-new-tokens", "5"});
    EXPECT_TRUE(says(text.out, {"--- 2: "}));
}

TEST(GenerateTokens, OfACheckpointAreThoseOfItsAdapterFolder) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::string data = test::write_text(folder / "d.jsonl", test::tokenised_records(12));
    const std::string run = (folder / "run").string();
    const Outcome trained =
        run_fedit({"train", "--model", model, "--data", data, "--output", run, "--rounds", "2",
                   "--num-clients", "2", "--threads", "1", "--lora-r", "2", "--learning-rate",
                   "0.05", "--progress", "none"});
    ASSERT_EQ(trained.code, 0) << trained.err;
    const auto generate = [&](const std::string& adapter) {
        return run_fedit({"generate", "--model", model, "--data", data, "--max-new-tokens", "8",
                          "--output-format", "json", "--threads", "1", "--adapter", adapter});
    };
    const Outcome of_folder = generate(run + "/adapter");
    const Outcome of_checkpoint = generate(run + "/checkpoints/round_000002.h5");
    EXPECT_EQ(of_checkpoint.code, 0) << of_checkpoint.err;
    EXPECT_EQ(of_checkpoint.out, of_folder.out);

    const std::string other = test::write_text(
        folder / "other" / "config.json",
        R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
 "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40,
 "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "rope_theta": 10000.0})");
    const std::string wide = (folder / "wide").string();
    ASSERT_EQ(run_fedit({"init", "--model-config", other, "--output", wide}).code, 0);
    const Outcome misfit = run_fedit({"generate", "--model", wide, "--data", data, "--adapter",
                                      run + "/checkpoints/round_000002.h5"});
    EXPECT_EQ(misfit.code, 2);
    EXPECT_TRUE(says(misfit.err, {"belongs to a model of another shape", "round_000002.h5"}));
}

struct Refused {
    std::string name;
    Words words;  ///< after --model; MODEL and DATA stand for good ones
    Words message;
};

class Refusals : public testing::TestWithParam<Refused> {};

TEST_P(Refusals, EndWithTwoAndSayWhatToDo) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::string data = test::write_text(folder / "d.jsonl", test::tokenised_records(2));
    Words words{"generate", "--model", model};
    for (const std::string& word : GetParam().words) {
        words.push_back(word == "DATA" ? data : word == "MODEL" ? model : word);
    }
    const Outcome outcome = run_with_input(words, "");
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(says(outcome.err, GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Inputs, Refusals,
    testing::Values(
        Refused{"nothing_asked", {}, {"nothing is asked", "--instruction TEXT"}},
        Refused{"no_lines", {"--input", "-"}, {"there are no prompts", "--input -"}},
        Refused{"two_sources",
                {"--prompt", "a", "--data", "DATA"},
                {"more than one source of prompts", "--prompt, --data"}},
        Refused{"context_alone", {"--data", "DATA", "--context", "c"}, {"--instruction TEXT"}},
        Refused{"cold", {"--data", "DATA", "--temperature", "-0.5"}, {"--temperature", "from 0"}},
        Refused{"empty_nucleus", {"--data", "DATA", "--top-p", "0"}, {"--top-p", "above 0"}},
        Refused{"wide_nucleus", {"--data", "DATA", "--top-p", "1.5"}, {"--top-p", "up to 1"}},
        Refused{"greedy_top_k",
                {"--data", "DATA", "--top-k", "4"},
                {"greedy answers are not sampled", "--temperature above 0"}},
        Refused{"negative_top_k",
                {"--data", "DATA", "--temperature", "1", "--top-k", "-1"},
                {"--top-k"}},
        Refused{"no_penalty",
                {"--data", "DATA", "--repetition-penalty", "0"},
                {"--repetition-penalty"}},
        Refused{"no_tokens", {"--data", "DATA", "--max-new-tokens", "0"}, {"--max-new-tokens"}},
        Refused{"empty_stop_string",
                {"--data", "DATA", "--stop-strings", R"(["a", ""])"},
                {"a stop string is empty", "--stop-strings"}},
        Refused{"stop_string_without_tokenizer",
                {"--data", "DATA", "--stop-strings", "a"},
                {"without a tokenizer", "--stop-strings"}},
        Refused{"no_tokenizer", {"--prompt", "a"}, {"tokenizer.json"}},
        Refused{"absent_adapter",
                {"--data", "DATA", "--adapter", "nowhere"},
                {"there is no adapter", "nowhere", "RUN/adapter"}},
        Refused{"adapter_is_no_checkpoint", {"--data", "DATA", "--adapter", "DATA"}, {"d.jsonl"}},
        Refused{"absent_input",
                {"--input", "nowhere.jsonl"},
                {"cannot open the file of prompts", "nowhere.jsonl"}},
        Refused{"control_character", {"--prompt", "a\x01"}, {"--prompt", "control characters"}}),
    [](const auto& refused) { return refused.param.name; });

TEST(LongPrompts, AreAllNamed) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");  // 64 positions
    std::string ids = "[1";
    for (int i = 1; i < 64; ++i) ids += ",2";
    const std::string input = test::write_text(folder / "in.jsonl", "[1]\n" + ids + "]\n[]\n");
    const Outcome outcome = run_fedit({"generate", "--model", model, "--input", input});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(says(outcome.err, {"the prompt has 64 tokens", "64 positions", "prompt 1 ",
                                   "shorten it", "prompt 2 ", "has no token"}));
    const std::string beyond = test::write_text(folder / "beyond.jsonl", "[1]\n[40]\n");
    const Outcome unknown = run_fedit({"generate", "--model", model, "--input", beyond});
    EXPECT_EQ(unknown.code, 2);
    EXPECT_TRUE(says(unknown.err, {"beyond.jsonl, line 2", "40"}));
}

TEST(EvaluateAnswers, StandSideBySideInOneTableAndOneJson) {
    const fs::path adapter = test::shared_path("fixtures/story/adapter");
    FEDIT_REQUIRE_SHARED(adapter);
    const Words words{"evaluate",
                      "--model",
                      test::shared_path("data/models/story-656k").string(),
                      "--data",
                      test::shared_path("fixtures/story/clients").string(),
                      "--threads",
                      "1",
                      "--generate",
                      "--max-new-tokens",
                      "12",
                      "--adapter"};
    const auto evaluate = [&](const std::string& adapters, const Words& more) {
        Words all = words;
        all.push_back(adapters);
        all.insert(all.end(), more.begin(), more.end());
        const Outcome outcome = run_fedit(all);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        return outcome;
    };
    const std::string both = "base," + adapter.string();
    const Outcome json = evaluate(both, {"--output-format", "json"});
    const Json models = Json::parse(json.out, "standard output")["models"];
    ASSERT_EQ(models.size(), 2U);
    EXPECT_EQ(models[0]["model"].as_string(), "base");
    EXPECT_EQ(models[1]["model"].as_string(), adapter.string());
    EXPECT_NE(models[0]["loss"].as_double(), models[1]["loss"].as_double());
    EXPECT_TRUE(says(json.err, {"of 16 records have no answer"}));

    const Json alone =
        Json::parse(evaluate(adapter.string(), {"--output-format", "json"}).out, "standard output");
    for (const std::string& key : alone.keys()) {
        EXPECT_EQ(alone[key].dump(), models[1][key].dump()) << key;
    }
    for (const char* key :
         {"loss", "perplexity", "labelled_tokens", "records", "records_without_label",
          "token_accuracy", "answers", "rouge1", "rouge2", "rougeL", "rougeLsum", "by_category"}) {
        EXPECT_TRUE(alone.has(key)) << key;
    }
    EXPECT_TRUE(says(evaluate(both, {}).out,
                     {"model 1: base\n", "model 2: ", "rougeLsum", "token acc.", "all  "}));
    EXPECT_TRUE(says(evaluate("base", {}).out, {"loss [nats]", "rougeL", "no label", "all  "}));
}

TEST(EvaluateChoices, RanksThem) {
    const fs::path model = test::shared_path("data/models/story-656k");
    FEDIT_REQUIRE_SHARED(model);
    const std::string data = test::write_text(
        test::test_folder() / "records.jsonl",
        R"({"instruction": "Go on.", "choices": ["a little girl", "xq zv jj kk"], "answer": 0}
{"instruction": "Go on.", "choices": ["a little girl", "xq zv jj kk"], "answer": "xq zv jj kk"}
{"instruction": "No choice.", "output": "a"}
)");
    const Outcome outcome = run_fedit({"evaluate", "--model", model.string(), "--data", data,
                                       "--threads", "1", "--output-format", "json"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Json got = Json::parse(outcome.out, "standard output");
    EXPECT_EQ(got["records"].as_int(), 3);
    EXPECT_EQ(got["choice_records"].as_int(), 2);
    EXPECT_EQ(got["choice_accuracy"].as_double(), 0.5);
    EXPECT_EQ(got["choice_accuracy_per_token"].as_double(), 0.5);
    const Outcome cut = run_fedit({"evaluate", "--model", model.string(), "--data", data,
                                   "--threads", "1", "--cutoff-len", "10"});
    EXPECT_EQ(cut.code, 0);
    EXPECT_TRUE(says(cut.err, {"2 of 2 multiple-choice records are not ranked"}));
}

}  // namespace
}  // namespace fedit
