// tests/experiment/evaluation_test.cpp: losses by category equal the independent implementation's
// and have the same bits on any number of ranks.
#include "fedit/experiment/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>

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
}

INSTANTIATE_TEST_SUITE_P(Labels, StoryEvaluation, testing::Bool(), [](const auto& labels) {
    return labels.param ? "train_on_inputs" : "response_only";
});

TEST(Evaluation, WithoutATargetTheLossIsNotANumber) {
    EXPECT_TRUE(std::isnan(CategoryScore{}.loss()));
}

}  // namespace
}  // namespace fedit
