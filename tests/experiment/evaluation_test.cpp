// tests/experiment/evaluation_test.cpp: losses by category equal the independent implementation's
// and have the same bits on any number of ranks.
#include "fedit/experiment/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fedit/core/error.h"
#include "fedit/experiment/config.h"
#include "fedit/experiment/session.h"
#include "fedit/io/json.h"
#include "fedit/io/sha256.h"
#include "tests/support/mpi_test_main.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

EncodedRecords held_out(const BaseModel& model, const std::filesystem::path& folder,
                        bool train_on_inputs) {
    Config config;
    config.prompt_template = test::shared_path("data/prompts/alpaca.json").string();
    config.train_on_inputs = train_on_inputs;
    const Tokenizer tokenizer = Tokenizer::load(folder);
    return encode_records(
        read_client_folder(test::shared_path("data/dolly-15k/clients-10"), -1).test, &tokenizer,
        prompt_template(config), encode_options(config), model.config().vocab_size);
}

class StoryEvaluation : public testing::TestWithParam<bool> {};

TEST_P(StoryEvaluation, EqualsTheFixtureOnAnyNumberOfRanks) {
    const auto folder = test::shared_path("data/models/story-656k");
    const auto fixture = test::shared_path("fixtures/story/evaluate.json");
    FEDIT_REQUIRE_SHARED(folder);
    FEDIT_REQUIRE_SHARED(fixture);
    Config config;
    config.threads = 1;
    config.dtype = "fp32";
    const Communicator& world = test::world();
    Machine machine = choose_machine(config, world);
    const BaseModel model(world, folder, machine);
    const Layout none;
    Decoder decoder(model.config(), model.weights(), none, *machine.backend);
    const EncodedRecords records = held_out(model, folder, GetParam());

    const Evaluation got = evaluate(world, decoder, *machine.backend, records, {}, 8);

    const Json want = Json::parse_file(fixture)[GetParam() ? "train_on_inputs" : "response_only"];
    EXPECT_NEAR(got.all.loss(), want["loss"].as_double(), 1e-6 * want["loss"].as_double());
    EXPECT_EQ(got.all.labelled_tokens, want["labelled_tokens"].as_int());
    EXPECT_EQ(got.all.records_without_label, want["records_without_label"].as_int());
    EXPECT_EQ(got.all.records, records.size());
    EXPECT_EQ(got.categories.size(), want["by_category"].size());
    for (const CategoryScore& score : got.categories) {
        const Json category = want["by_category"][score.category];
        EXPECT_NEAR(score.loss(), category["loss"].as_double(), 1e-6 * category["loss"].as_double())
            << score.category;
        EXPECT_EQ(score.labelled_tokens, category["labelled_tokens"].as_int());
        EXPECT_EQ(score.records_without_label, category["records_without_label"].as_int());
    }
    const Json written = Json::parse(to_json(got), "to_json");
    EXPECT_EQ(written["loss"].as_double(), got.all.loss());

    // The same bits as one rank that evaluates all.
    const EvaluationSums alone =
        evaluate_records(decoder, *machine.backend, records, 0, records.size(), {}, 8);
    double sum = 0;
    for (const double loss : alone.loss) sum += loss;
    EXPECT_EQ(got.all.loss_sum, sum);
    EXPECT_EQ(got.all.hits, std::accumulate(alone.hits.begin(), alone.hits.end(), std::int64_t{0}));
    EXPECT_GT(got.all.hits, 0);
    EXPECT_EQ(written["token_accuracy"].as_double(), got.all.token_accuracy());
}

INSTANTIATE_TEST_SUITE_P(Labels, StoryEvaluation, testing::Bool(), [](const auto& labels) {
    return labels.param ? "train_on_inputs" : "response_only";
});

TEST(Evaluation, WithoutATargetTheLossIsNotANumber) {
    EXPECT_TRUE(std::isnan(CategoryScore{}.loss()));
    EXPECT_TRUE(std::isnan(CategoryScore{}.token_accuracy()));
    EXPECT_TRUE(std::isnan(CategoryScore{}.choice_accuracy()));
    EXPECT_TRUE(std::isnan(CategoryScore{}.rouge().rougeL));
}

TEST(Evaluation, SumsWhatWasMeasuredByCategory) {
    EncodedRecords records;
    records.categories = {"b", "a", ""}, records.category = {0, 1, 2, 0};
    std::vector<RecordScore> scores(4);
    scores[0] = {.loss = 6, .targets = 3, .hits = 1, .rouge = Rouge{0.5, 0.25, 0.5, 1}};
    scores[1] = {.loss = 2, .targets = 1, .hits = 1, .choice = ChoicePick{true, false}};
    scores[3] = {.rouge = Rouge{1, 0.75, 0, 0}, .choice = ChoicePick{true, true}};

    const Evaluation got = summarise(scores, records);

    ASSERT_EQ(got.categories.size(), 2U);
    EXPECT_EQ(got.categories[0].category, "a");
    EXPECT_EQ(got.categories[1].records, 2);
    EXPECT_EQ(got.categories[1].records_without_label, 1);
    EXPECT_EQ(got.categories[1].rouge().rouge1, 0.75);
    EXPECT_EQ(got.all.loss(), 2);
    EXPECT_EQ(got.all.token_accuracy(), 0.5);
    EXPECT_EQ(got.all.choice_accuracy(), 1);
    EXPECT_EQ(got.all.choice_accuracy_per_token(), 0.5);
    const Json json = Json::parse(to_json(got), "to_json");
    EXPECT_EQ(json["answers"].as_int(), 2);
    EXPECT_EQ(json["rouge2"].as_double(), 0.5);
    EXPECT_FALSE(json["by_category"]["a"].has("rouge1")) << "nothing was generated there";
    EXPECT_EQ(json["by_category"]["a"]["choice_accuracy"].as_double(), 1);
}

/// The story model, its decoder and eight texts, on all ranks.
class StoryScores : public testing::Test {
protected:
    void SetUp() override {
        FEDIT_REQUIRE_SHARED(folder_);
        Config config;
        config.threads = 1;
        config.dtype = "fp32";
        machine_ = choose_machine(config, test::world());
        model_.emplace(test::world(), folder_, machine_);
        tokenizer_.emplace(Tokenizer::load(folder_));
        decoder_.emplace(model_->config(), model_->weights(), none_, *machine_.backend);
    }
    EncodedRecords encode(std::span<const Record> records) const {
        return encode_records(records, &*tokenizer_, prompt_, {}, model_->config().vocab_size);
    }
    std::vector<RecordScore> score(const EncodedRecords& records) {
        return score_records(test::world(), *decoder_, *machine_.backend, records, {}, 2);
    }
    static Record record(std::string instruction, std::string response) {
        Record result;
        result.instruction = std::move(instruction), result.response = std::move(response);
        return result;
    }

    std::filesystem::path folder_ = test::shared_path("data/models/story-656k");
    PromptTemplate prompt_ = PromptTemplate::built_in();
    Machine machine_;
    std::optional<BaseModel> model_;
    std::optional<Tokenizer> tokenizer_;
    Layout none_;
    std::optional<Decoder> decoder_;
};

TEST_F(StoryScores, ChoicesAreRankedByTheirLogLikelihoodAsResponses) {
    const std::vector<std::string> texts{"a little girl", "One day, a little boy named Tim went",
                                         "zq", "the"};
    std::vector<Record> records, responses;
    for (std::size_t answer = 0; answer < texts.size(); ++answer) {
        records.push_back(record("Tell a story.", texts[answer]));
        records.back().choices = texts, records.back().answer = answer;
        responses.push_back(record("Tell a story.", texts[answer]));
    }
    records.push_back(record("No choices.", "x"));
    const EncodedChoices choices =
        encode_choices(records, &*tokenizer_, prompt_, {}, model_->config().vocab_size);
    ASSERT_EQ(choices.groups.size(), texts.size());
    std::vector<RecordScore> scores = score(encode(records));
    score_choices(test::world(), *decoder_, *machine_.backend, choices, {}, 2, scores);

    std::vector<RecordScore> alone;  // each response as a record of its own
    for (const Record& response : responses) {
        alone.push_back(score(encode({&response, 1})).front());
    }
    const auto best = std::min_element(alone.begin(), alone.end(),
                                       [](auto& a, auto& b) { return a.loss < b.loss; }) -
                      alone.begin();
    const auto best_mean = std::min_element(alone.begin(), alone.end(),
                                            [](auto& a, auto& b) {
                                                return a.loss / static_cast<double>(a.targets) <
                                                       b.loss / static_cast<double>(b.targets);
                                            }) -
                           alone.begin();
    EXPECT_NE(best, best_mean) << "texts of different length tell the two apart";
    for (std::size_t answer = 0; answer < texts.size(); ++answer) {
        ASSERT_TRUE(scores[answer].choice);
        EXPECT_EQ(scores[answer].choice->right, static_cast<std::ptrdiff_t>(answer) == best);
        EXPECT_EQ(scores[answer].choice->right_per_token,
                  static_cast<std::ptrdiff_t>(answer) == best_mean);
    }
    EXPECT_FALSE(scores.back().choice);
}

TEST_F(StoryScores, RecordsWithAChoiceThatWouldBeCutAreLeftOut) {
    std::vector<Record> records{record("a", "b"), record("a", "b")};
    records[0].choices = {"b", "c"};
    records[1].choices = {"b", std::string(500, 'q')};
    const auto encoded = [&](int cutoff) {
        return encode_choices(records, &*tokenizer_, prompt_, {.cutoff_len = cutoff},
                              model_->config().vocab_size);
    };
    EXPECT_EQ(encoded(100).groups.size(), 1U);
    EXPECT_EQ(encoded(100).choices.size(), 2);
    EXPECT_EQ(encoded(5).groups.size(), 0U);
    EXPECT_EQ(encoded(5).choices.size(), 0);
}

TEST_F(StoryScores, AnswersAreComparedWithTheResponses) {
    const std::vector<Record> questions{record("Tell me of a dog.", ""), record("Hello?", ""),
                                        record(std::string(2000, 'q'), "too long to answer")};
    Generator generator(model_->config(), *decoder_, *machine_.backend, &*tokenizer_, {},
                        {.max_new_tokens = 12});
    std::vector<Record> records = questions;
    for (std::size_t i = 0; i < 2; ++i) {
        const Prompt prompt{prompt_ids(questions[i], &*tokenizer_, prompt_), 0};
        records[i].response = generator.answer(prompt, [](auto) {}).text;
    }
    records[1].response += "\nand four more words";
    std::vector<RecordScore> scores(3);
    score_answers(test::world(), generator, model_->config(), &*tokenizer_, prompt_, records, 1,
                  scores);
    ASSERT_TRUE(scores[0].rouge && scores[1].rouge);
    EXPECT_EQ(scores[0].rouge->rougeL, 1);
    EXPECT_GT(scores[1].rouge->rouge1, 0.2);
    EXPECT_LT(scores[1].rouge->rouge1, 1);
    EXPECT_FALSE(scores[2].rouge);
    EXPECT_THROW(score_answers(test::world(), generator, model_->config(), nullptr, prompt_,
                               records, 1, scores),
                 InputError);
}

}  // namespace
}  // namespace fedit
