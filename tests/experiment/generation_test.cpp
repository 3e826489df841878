// tests/experiment/generation_test.cpp: answers equal the independent implementation's, and depend
// neither on the cache, nor on who is answered beside, nor on the number of ranks.
#include "fedit/experiment/generation.h"

#include <gtest/gtest.h>

#include "experiment/answer_text.h"
#include "fedit/core/error.h"
#include "fedit/io/json.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/mpi_test_main.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;

/// A model and what generates with it; `x`: an adapter on q and v.
class Answerer {
public:
    Answerer(const fs::path& folder, const Tokenizer* tokenizer, bool adapted = false)
        : model_(folder),
          tokenizer_(tokenizer),
          layout_(adapted ? make_lora_layout(model_.config(),
                                             {.r = 2, .target_modules = {"q_proj", "v_proj"}})
                          : Layout{}),
          x_(test::random_adapter(layout_.size, 0.3, 5)),
          decoder_(model_.config(), model_.weights, layout_, *model_.backend) {}

    const ModelConfig& config() const { return model_.config(); }
    Generator generator(GenerationConfig config) {
        return {model_.config(), decoder_, *model_.backend, tokenizer_, x_, std::move(config)};
    }
    /// Without cache and batch: the whole sequence through the decoder for each token.
    Answer slowly(const Prompt& prompt, const GenerationConfig& config) {
        Answer answer;
        Ids context = prompt.ids;
        const AdapterSlot slot{.x = x_.data()};
        const auto vocab = static_cast<std::size_t>(model_.config().vocab_size);
        while (std::ssize(answer.new_ids) < config.max_new_tokens) {
            PackedBatch batch;
            test::append_sequence(batch, context, context.size());
            std::vector<float> logits =
                decoder_.logits(batch, x_.empty() ? std::span<const AdapterSlot>{}
                                                  : std::span<const AdapterSlot>(&slot, 1));
            RandomStream stream({.seed = config.seed,
                                 .purpose = Purpose::generation,
                                 .client = prompt.record,
                                 .step = static_cast<std::uint32_t>(answer.new_ids.size())});
            const std::int32_t token = next_token(std::span(logits).last(vocab), context,
                                                  config.sampling, stream.uniform());
            context.push_back(token);
            answer.new_ids.push_back(token);
            if (std::find(config.end_tokens.begin(), config.end_tokens.end(), token) !=
                config.end_tokens.end()) {
                answer.finish_reason = FinishReason::stop;
                break;
            }
        }
        return answer;
    }

private:
    test::LoadedModel model_;
    const Tokenizer* tokenizer_;
    Layout layout_;
    std::vector<float> x_;
    Decoder decoder_;
};

/// Each rank writes a model of its own: ranks share the working folder.
fs::path tiny_model() {
    return test::write_tiny_model(
        test::fresh_folder("model" + std::to_string(test::world().rank())));
}

std::vector<Prompt> random_prompts() {
    std::vector<Prompt> prompts;
    for (const std::size_t length : {5U, 1U, 17U, 30U, 2U, 9U, 11U}) {
        prompts.push_back(
            {test::random_tokens(length, length), static_cast<std::uint32_t>(prompts.size())});
    }
    return prompts;
}

GenerationConfig sampled() {
    return {.sampling = {.temperature = 0.9, .top_k = 20, .top_p = 0.95, .repetition_penalty = 1.2},
            .seed = 7,
            .max_new_tokens = 25,
            .end_tokens = {4, 9},
            .stop_strings = {}};
}

void expect_same(const Answer& got, const Answer& want, std::size_t prompt) {
    EXPECT_EQ(got.new_ids, want.new_ids) << "prompt " << prompt;
    EXPECT_EQ(got.text, want.text) << "prompt " << prompt;
    EXPECT_EQ(got.finish_reason, want.finish_reason) << "prompt " << prompt;
}

class GreedyFixture : public testing::TestWithParam<const char*> {};

TEST_P(GreedyFixture, EqualsTransformers) {
    const fs::path folder = test::shared_path("fixtures/models") / GetParam();
    FEDIT_REQUIRE_SHARED(folder);
    const SafetensorsFile expected(folder / "expected.safetensors");
    const Ids want = expected.read_int32("generate_greedy");
    Answerer answerer(folder, nullptr);
    // The expected tokens go on where an end token would end an answer.
    Generator generator = answerer.generator({.max_new_tokens = std::ssize(want)});
    const std::vector<Prompt> prompts{{expected.read_int32("generate_prompt"), 0}};
    const Answer got = generator.answer(prompts).front();
    EXPECT_EQ(got.new_ids, want);
    EXPECT_EQ(got.finish_reason, FinishReason::length);
    EXPECT_EQ(answerer.slowly(prompts.front(), {.max_new_tokens = std::ssize(want)}).new_ids, want);
}

INSTANTIATE_TEST_SUITE_P(Models, GreedyFixture,
                         testing::Values("llama-gqa", "llama-rope-llama3-tied",
                                         "llama-rope-linear-bias", "mistral-window", "qwen2",
                                         "qwen3"),
                         [](const auto& model) {
                             std::string name = model.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

class Story : public testing::Test {
protected:
    void SetUp() override {
        FEDIT_REQUIRE_SHARED(folder_);
        FEDIT_REQUIRE_SHARED(fixture_);
        tokenizer_.emplace(Tokenizer::load(folder_));
        answerer_.emplace(folder_, &*tokenizer_);
    }
    GenerationConfig greedy(Texts stop_strings = {}) {
        return {.max_new_tokens = 60,
                .end_tokens = end_tokens(folder_, &*tokenizer_, answerer_->config().vocab_size),
                .stop_strings = std::move(stop_strings)};
    }
    Prompt prompt(std::string_view text) { return {prompt_ids(*tokenizer_, text), 0}; }
    Answer ask(std::string_view text, GenerationConfig config) {
        return answerer_->generator(std::move(config)).answer(prompt(text), [](auto) {});
    }

    fs::path folder_ = test::shared_path("data/models/story-656k");
    fs::path fixture_ = test::shared_path("fixtures/story/evaluate.json");
    std::optional<Tokenizer> tokenizer_;
    std::optional<Answerer> answerer_;
};

TEST_F(Story, GreedyAnswersEqualTheFixtureOnAnyNumberOfRanks) {
    const Json all = Json::parse_file(fixture_)["generate"];
    std::vector<Prompt> prompts;
    for (std::size_t i = 0; i < all.size(); ++i) {
        prompts.push_back(
            {prompt_ids(*tokenizer_, all[i]["prompt"].as_string()), static_cast<std::uint32_t>(i)});
    }
    Generator generator = answerer_->generator(greedy());
    for (const int batch_size : {1, 2, 8}) {
        const std::vector<Answer> got = generator.answer(test::world(), prompts, batch_size);
        ASSERT_EQ(got.size(), all.size());
        for (std::size_t i = 0; i < got.size(); ++i) {
            const Json written = Json::parse(to_json(prompts[i], got[i], &*tokenizer_), "to_json");
            EXPECT_EQ(written["prompt_ids"].dump(), all[i]["prompt_ids"].dump());
            EXPECT_EQ(written["new_ids"].dump(), all[i]["new_ids"].dump());
            const bool ended = got[i].new_ids.back() == 2;
            EXPECT_EQ(written["text"].as_string(), all[i]["text"].as_string());
            EXPECT_EQ(written["finish_reason"].as_string(), ended ? "stop" : "length");
        }
    }
}

TEST_F(Story, AStopStringThatSpansTokensEndsTheAnswerAndIsCutOff) {
    const Answer free = ask("Once upon a time", greedy());
    const Answer stopped = ask("Once upon a time", greedy({"no such text", "mom, da"}));
    const std::size_t at = free.text.find("mom, da");
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(stopped.text, free.text.substr(0, at));
    EXPECT_EQ(stopped.finish_reason, FinishReason::stop);
    ASSERT_LT(stopped.new_ids.size(), free.new_ids.size());
    EXPECT_TRUE(std::equal(stopped.new_ids.begin(), stopped.new_ids.end(), free.new_ids.begin()));
    const auto before = std::span(stopped.new_ids).first(stopped.new_ids.size() - 1);
    EXPECT_EQ(tokenizer_->decode(before).find("mom, da"), std::string::npos)
        << "it ends with the token that completes the stop string";
}

TEST_F(Story, StreamedPartsAreTheTextAndNeverShowABegunStopString) {
    for (const Texts& stops : {Texts{}, Texts{"mom, da"}, Texts{"zebra"}}) {
        std::string streamed;
        int parts = 0;
        const Answer answer = answerer_->generator(greedy(stops))
                                  .answer(prompt("Once upon a time"), [&](std::string_view part) {
                                      streamed += part;
                                      parts += part.empty() ? 0 : 1;
                                  });
        EXPECT_EQ(streamed, answer.text);
        EXPECT_GT(parts, 3);
    }
}

/// The LLaMA-2 tokenizer, whose special tokens are left out of text; byte fallback.
class Llama2Text : public testing::Test {
protected:
    void SetUp() override {
        const fs::path source = test::shared_path("fixtures/tokenizers/llama2.tokenizer.json");
        FEDIT_REQUIRE_SHARED(source);
        folder_ = test::fresh_folder("llama2-" + std::to_string(test::world().rank()));
        fs::copy_file(source, folder_ / "tokenizer.json");
        tokenizer_.emplace(Tokenizer::load(folder_));
    }
    fs::path folder_;
    std::optional<Tokenizer> tokenizer_;
};

TEST_F(Llama2Text, ASpecialTokenAsStopStringIsAnEndToken) {
    Config config;
    config.model = folder_.string();
    config.stop_strings = R"(["<unk>", "\n\n"])";
    const GenerationConfig got = generation_config(config, &*tokenizer_, 32000);
    EXPECT_EQ(got.end_tokens, Ids{0});
    EXPECT_EQ(got.stop_strings, Texts{"\n\n"});
}

TEST_F(Llama2Text, ThatMayYetChangeIsHeldBack) {
    const Ids ids = tokenizer_->encode("a\U0001F9A9 xyzz xyz", SpecialTokens::none).ids;
    const Texts stops{"xyz "};
    AnswerText text(*tokenizer_, {}, stops);
    std::string shown;
    for (std::size_t n = 1; n <= ids.size(); ++n) {
        EXPECT_FALSE(text.update(std::span(ids).first(n)));
        shown += text.take_settled();
        EXPECT_EQ(shown.find("\uFFFD"), std::string::npos) << "half a character";
        EXPECT_FALSE(shown.ends_with("xyz")) << "perhaps the stop string";
    }
    EXPECT_EQ(shown, "a\U0001F9A9 xyzz ");
    EXPECT_EQ(text.take_rest(), "xyz");
}

TEST_F(Llama2Text, StopsWhereTheStopStringBeganInThePromptOrInASpaceThatTheTextLoses) {
    const Ids prompt = tokenizer_->encode("He said\n", SpecialTokens::before).ids;
    const auto stopped_text = [&](const std::string& stop, const std::string& answer) {
        const Texts stops{stop};
        AnswerText text(*tokenizer_, prompt, stops);
        Ids ids = tokenizer_->encode("He said\n" + answer, SpecialTokens::before).ids;
        ids.erase(ids.begin(), ids.begin() + std::ssize(prompt));
        EXPECT_EQ(text.take_settled(), "");
        const bool stopped = text.update(ids);
        return stopped ? std::optional(text.text()) : std::nullopt;
    };
    EXPECT_EQ(stopped_text("\n\n", "\nthe end"), "") << "one line end is the prompt's";
    EXPECT_EQ(stopped_text(" the", " the end"), "");
    EXPECT_EQ(stopped_text("end", " the end"), "the ");
    EXPECT_EQ(stopped_text("the end", " the end"), "");
    EXPECT_EQ(stopped_text("said", " the end"), std::nullopt) << "it ends in the prompt";
}

TEST_F(Llama2Text, OfAPromptThatIsEmptyIsTheBeginToken) {
    EXPECT_EQ(prompt_ids(*tokenizer_, ""), Ids{1});
}

TEST(Prompts, KeepTheirLastSpacesWhereTheTokenizerTrimsOffsets) {
    const fs::path source = test::shared_path("fixtures/tokenizers/gpt2.tokenizer.json");
    FEDIT_REQUIRE_SHARED(source);
    std::string json = read_text_file(source);
    const std::string without = R"("post_processor":null)";
    const std::size_t at = json.find(without);
    ASSERT_NE(at, std::string::npos);
    json.replace(at, without.size(),
                 R"("post_processor":{"type":"ByteLevel","add_prefix_space":false,
                     "trim_offsets":true})");
    const fs::path folder = test::fresh_folder("trims" + std::to_string(test::world().rank()));
    AtomicFile().write(folder / "tokenizer.json", json);
    EXPECT_EQ(prompt_ids(Tokenizer::load(folder), "Hello "), (Ids{15496, 220}));
}

TEST(Generation, WithTheCacheEqualsWithoutItTokenForToken) {
    for (const bool adapted : {false, true}) {
        Answerer answerer(tiny_model(), nullptr, adapted);
        for (const GenerationConfig& config : {GenerationConfig{.max_new_tokens = 25}, sampled()}) {
            const std::vector<Prompt> prompts = random_prompts();
            const std::vector<Answer> got = answerer.generator(config).answer(prompts);
            for (std::size_t i = 0; i < prompts.size(); ++i) {
                expect_same(got[i], answerer.slowly(prompts[i], config), i);
            }
        }
    }
}

TEST(Generation, DependsNeitherOnTheBatchNorOnTheRanks) {
    Answerer answerer(tiny_model(), nullptr, true);
    Generator generator = answerer.generator(sampled());
    const std::vector<Prompt> prompts = random_prompts();
    const std::vector<Answer> together = generator.answer(prompts);
    for (const int batch_size : {1, 3, 100}) {
        const std::vector<Answer> dealt = generator.answer(test::world(), prompts, batch_size);
        ASSERT_EQ(dealt.size(), prompts.size());
        for (std::size_t i = 0; i < dealt.size(); ++i) expect_same(dealt[i], together[i], i);
    }
    bool differ = false;
    GenerationConfig other = sampled();
    other.seed = 8;
    const std::vector<Answer> reseeded = answerer.generator(other).answer(prompts);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        differ = differ || reseeded[i].new_ids != together[i].new_ids;
    }
    EXPECT_TRUE(differ);
}

TEST(Generation, OfOnePromptTwiceDiffersByRecordOnlyWhenSampled) {
    Answerer answerer(tiny_model(), nullptr);
    const std::vector<Prompt> twice{{test::random_tokens(5, 1), 0}, {test::random_tokens(5, 1), 1}};
    const auto greedy = answerer.generator({.max_new_tokens = 20}).answer(twice);
    EXPECT_EQ(greedy[0].new_ids, greedy[1].new_ids);
    const auto drawn = answerer.generator(sampled()).answer(twice);
    EXPECT_NE(drawn[0].new_ids, drawn[1].new_ids);
}

TEST(Generation, EndsWhereTheModelsPositionsEnd) {
    Answerer answerer(tiny_model(), nullptr);  // 64 positions
    const std::vector<Prompt> prompts{{test::random_tokens(60, 1), 0},
                                      {test::random_tokens(63, 2), 1}};
    const auto answers = answerer.generator({.max_new_tokens = 25}).answer(prompts);
    EXPECT_EQ(answers[0].new_ids.size(), 4U);
    EXPECT_EQ(answers[1].new_ids.size(), 1U);
    EXPECT_EQ(answers[1].finish_reason, FinishReason::length);
}

TEST(Generation, OfPromptsThatCannotBeAnsweredIsAnErrorThatNamesThem) {
    Answerer answerer(tiny_model(), nullptr);
    Generator generator = answerer.generator({});
    const std::vector<Prompt> prompts{
        {{1}, 0}, {{}, 1}, {test::random_tokens(64, 1), 2}, {test::random_tokens(63, 1), 3}};
    try {
        generator.answer(test::world(), prompts, 2);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        const std::string message = error.what();
        EXPECT_EQ(error.faults().size(), 2U);
        for (const char* part : {"the prompt has no token", "prompt 1", "the prompt has 64 tokens",
                                 "64 positions", "prompt 2"}) {
            EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
        }
    }
}

TEST(Generation, NeedsATokenizerForStopStrings) {
    Answerer answerer(tiny_model(), nullptr);
    EXPECT_THROW(answerer.generator({.stop_strings = {"x"}}), InputError);
}

TEST(EndTokens, AreANumberOrAListOfTheNewestFileThatNamesThem) {
    const fs::path folder = test::fresh_folder("ends" + std::to_string(test::world().rank()));
    const AtomicFile files;
    EXPECT_EQ(end_tokens(folder, nullptr, 50), Ids{});
    files.write(folder / "config.json", std::string_view(R"({"eos_token_id": 7})"));
    EXPECT_EQ(end_tokens(folder, nullptr, 50), Ids{7});
    files.write(folder / "generation_config.json", std::string_view(R"({"eos_token_id": null})"));
    EXPECT_EQ(end_tokens(folder, nullptr, 50), Ids{7});
    files.write(folder / "generation_config.json",
                std::string_view(R"({"eos_token_id": [3, 49]})"));
    EXPECT_EQ(end_tokens(folder, nullptr, 50), (Ids{3, 49}));
    EXPECT_THROW(end_tokens(folder, nullptr, 49), InputError);
}

TEST(Prompts, OfTokenisedRecordsEndBeforeTheFirstLabel) {
    Record record;
    record.input_ids = {5, 6, 7, 8}, record.labels = {-1, -1, 7, -1};
    EXPECT_EQ(prompt_ids(record, nullptr, PromptTemplate::built_in()), (Ids{5, 6}));
    record.labels = {-1, -1, -1, -1};
    EXPECT_EQ(prompt_ids(record, nullptr, PromptTemplate::built_in()), record.input_ids);
}

TEST(Prompts, PlainTextHasNone) {
    Record record;
    record.response = "It was a dark night.", record.is_plain_text = true;
    EXPECT_EQ(prompt_ids(record, nullptr, PromptTemplate::built_in()), Ids{});
}

}  // namespace
}  // namespace fedit
