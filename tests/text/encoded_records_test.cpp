// tests/text/encoded_records_test.cpp: token ids and labels of records, by hand and against
// fixtures.
#include <algorithm>

#include "fedit/text/dataset.h"
#include "tests/text/text_support.h"

namespace fedit {
namespace {

using Ids = std::vector<std::int32_t>;
using Counts = std::vector<std::int64_t>;

// The tiny tokenizer with BOS 1 and EOS 2, and the prompt "INSTRUCTION b" or "INSTRUCTION b INPUT
// b".
class Encoded : public testing::Test {
protected:
    Encoded() {
        const auto folder = test::tiny_folder();
        test::write_file(folder / "tokenizer_config.json", R"({"eos_token": "</s>"})");
        tokenizer_.emplace(Tokenizer::load(folder));
        const auto path = test::write_file(folder / "prompt.json", R"({"response_split": "b",
            "prompt_input": "{instruction}b{input}b", "prompt_no_input": "{instruction}b"})");
        prompt_.emplace(PromptTemplate::load(path));
    }
    EncodedRecords encode(const std::vector<Record>& records, EncodeOptions options = {}) {
        return encode_records(records, &*tokenizer_, *prompt_, options, 13);
    }
    std::optional<Tokenizer> tokenizer_;
    std::optional<PromptTemplate> prompt_;
};

Record text_record(std::string instruction, std::string response, std::string category = "") {
    return {.instruction = std::move(instruction),
            .input = {},
            .response = std::move(response),
            .category = std::move(category),
            .input_ids = {},
            .labels = {}};
}

Record token_record(Ids ids, Ids labels) {
    return {.instruction = {},
            .input = {},
            .response = {},
            .category = {},
            .input_ids = std::move(ids),
            .labels = std::move(labels)};
}

TEST_F(Encoded, LabelsTokensThatBeginAtOrBehindThePromptsEnd) {
    const EncodedRecords all = encode({text_record("a", "aa b")});  // <s> _ab a a _ b </s>
    EXPECT_EQ(all.tokens, (Ids{1, 8, 4, 4, 3, 5, 2}));
    EXPECT_EQ(all.labels, (Ids{-1, -1, 4, 4, 3, 5, 2}));
    EXPECT_EQ(all.targets, (Counts{5}));
}

TEST_F(Encoded, ATokenThatBeginsInThePromptIsPrompt) {
    const auto folder = test::test_folder();
    const auto path = test::write_file(folder / "prompt.json", R"({"response_split": "b",
        "prompt_input": "{instruction}{input} ", "prompt_no_input": "{instruction} "})");
    const Record record =
        text_record("b", "ab");  // "b ab": _ b _ab, the last from the prompt's space
    const EncodedRecords all =
        encode_records(std::vector{record}, &*tokenizer_, PromptTemplate::load(path), {}, 13);
    EXPECT_EQ(all.tokens, (Ids{1, 3, 5, 8, 2}));
    EXPECT_EQ(all.labels, (Ids{-1, -1, -1, -1, 2}));
}

TEST_F(Encoded, PlainTextHasNoPromptAndIsLearnedWhole) {
    Record record = text_record("", "aa b");
    record.is_plain_text = true;
    const EncodedRecords all = encode({record});  // <s> _a a _ b </s>, however they merge
    EXPECT_EQ(all.tokens.front(), 1);
    EXPECT_EQ(all.tokens.back(), 2);
    Ids labels = all.tokens;
    labels.front() = -1;  // nothing predicts it
    EXPECT_EQ(all.labels, labels);
}

TEST_F(Encoded, TheFirstTokenIsNeverATarget) {
    const EncodedRecords all = encode({text_record("a", "a")}, {.train_on_inputs = true});
    EXPECT_EQ(all.tokens, (Ids{1, 8, 4, 2}));
    EXPECT_EQ(all.labels, (Ids{-1, 8, 4, 2}));
    EXPECT_EQ(all.targets, (Counts{3}));
}

TEST_F(Encoded, EndsWithEosOnlyWhereThereIsRoom) {
    const std::vector<Record> records{text_record("a", "a")};  // <s> _ab a, then EOS
    EXPECT_EQ(encode(records, {.cutoff_len = 4}).tokens, (Ids{1, 8, 4, 2}));
    EXPECT_EQ(encode(records, {.cutoff_len = 3}).tokens, (Ids{1, 8, 4}));
    const EncodedRecords cut = encode(records, {.cutoff_len = 2});
    EXPECT_EQ(cut.tokens, (Ids{1, 8}));
    EXPECT_EQ(cut.targets, (Counts{0}));
    EXPECT_EQ(cut.records_with_target(), 0);
}

TEST_F(Encoded, DoesNotRepeatAnEosThatTheTextEndsWith) {
    EXPECT_EQ(encode({text_record("a", "a</s>")}).tokens, (Ids{1, 8, 4, 2}));
}

TEST_F(Encoded, AnEmptyResponseTrainsTheEnd) {
    const EncodedRecords all = encode({text_record("a", "")});
    EXPECT_EQ(all.tokens, (Ids{1, 8, 2}));
    EXPECT_EQ(all.labels, (Ids{-1, -1, 2}));
}

TEST_F(Encoded, TakesTheInputIntoThePrompt) {
    Record record = text_record("a", "a");
    record.input = "a";
    EXPECT_EQ(encode({record}).tokens, (Ids{1, 8, 6, 4, 2}));  // "abab" + "a"
}

TEST_F(Encoded, MixesTextsAndTokensAndCutsBoth) {
    const EncodedRecords all =
        encode({token_record({4, 5, 6, 7, 8}, {4, -1, 6, 7, 8}), text_record("a", "aaaa")},
               {.cutoff_len = 4});
    EXPECT_EQ(all.tokens, (Ids{4, 5, 6, 7, 1, 8, 4, 4}));
    EXPECT_EQ(all.labels, (Ids{-1, -1, 6, 7, -1, -1, 4, 4}));
    EXPECT_EQ(all.begin, (Counts{0, 4, 8}));
    EXPECT_EQ(all.targets, (Counts{2, 2}));
    EXPECT_EQ(all.length(1), 4);
}

TEST_F(Encoded, NumbersCategoriesByFirstAppearance) {
    const EncodedRecords all = encode({text_record("a", "a", "qa"), text_record("a", "a"),
                                       text_record("a", "a", "open"), text_record("a", "a", "qa")});
    EXPECT_EQ(all.categories, (std::vector<std::string>{"qa", "", "open"}));
    EXPECT_EQ(all.category, (Ids{0, 1, 2, 0}));
}

TEST_F(Encoded, SelectionKeepsOrderAndCategoryTable) {
    const EncodedRecords all = encode(
        {text_record("a", "a", "x"), text_record("a", "ab", "y"), text_record("b", "", "z")});
    const EncodedRecords picked = select(all, Counts{2, 0, 2});
    EXPECT_EQ(picked.categories, all.categories);
    EXPECT_EQ(picked.category, (Ids{2, 0, 2}));
    EXPECT_EQ(picked.size(), 3);
    EXPECT_EQ(picked.targets, (Counts{all.targets[2], all.targets[0], all.targets[2]}));
    EXPECT_EQ(Ids(picked.tokens.begin() + picked.begin[1], picked.tokens.begin() + picked.begin[2]),
              Ids(all.tokens.begin(), all.tokens.begin() + all.begin[1]));
    EXPECT_EQ(picked.longest(), all.longest());
    EXPECT_THROW(select(all, Counts{3}), RunError);
}

TEST_F(Encoded, FingerprintSeesEveryPart) {
    const std::vector<Record> records{text_record("a", "ab", "x"), text_record("b", "a", "y")};
    const EncodedRecords all = encode(records);
    const std::string print = fingerprint(all);
    EXPECT_EQ(print.size(), 64U);
    EXPECT_EQ(print, fingerprint(encode(records)));
    EncodedRecords other = all;
    other.tokens[1] = 3;
    EXPECT_NE(print, fingerprint(other));
    other = all;
    other.labels[2] = -1;
    EXPECT_NE(print, fingerprint(other));
    other = all;
    other.begin[1] += 1;
    EXPECT_NE(print, fingerprint(other));
    other = all;
    other.category[1] = 0;
    EXPECT_NE(print, fingerprint(other));
    other = all;
    other.categories[0] = "z";
    EXPECT_NE(print, fingerprint(other));
}

TEST_F(Encoded, RefusesIdsOutsideTheModelsVocabulary) {
    const std::vector<Record> records{token_record({4, 13}, {-1, 4}),
                                      token_record({4, 5}, {-1, 13}),
                                      token_record({4, 5}, {-1, 5})};
    test::expect_says(test::input_error([&] { encode(records); }),
                      {"token id 13 is outside the model's vocabulary of 13",
                       "record 0 (the first is 0), token 1", "label 13 is outside",
                       "record 1 (the first is 0), token 1"});
    const std::vector<Record> text{text_record("a", "a")};
    test::expect_says(
        test::input_error([&] { encode_records(text, &*tokenizer_, *prompt_, {}, 8); }),
        {"token id 8 is outside the model's vocabulary of 8",
         "tokenizer that belongs to the model"});
}

TEST_F(Encoded, RefusesACutoffBelowOneAndTextsWithoutATokenizer) {
    test::expect_says(test::input_error([&] { encode({}, {.cutoff_len = 0}); }),
                      {"a cutoff of 0 tokens", "cutoff-len", "at least 1"});
    const std::vector<Record> text{token_record({4, 5}, {-1, 5}), text_record("a", "a")};
    test::expect_says(test::input_error([&] { encode_records(text, nullptr, *prompt_, {}, 13); }),
                      {"there is no tokenizer", "record 1 (the first is 0)"});
    EXPECT_EQ(encode_records(std::span(text).first(1), nullptr, *prompt_, {}, 13).size(), 1);
}

// Where a record's labels begin; its length if it has none.
std::int64_t first_label(const EncodedRecords& all, std::int64_t record) {
    std::int64_t t = 0;
    while (t < all.length(record) && all.labels[all.begin[record] + t] < 0) ++t;
    return t;
}

void expect_prompt_fixture(const Tokenizer& tokenizer, const std::string& name) {
    const auto path = test::shared_path("fixtures/prompts/" + name + ".jsonl");
    const auto expected = test::read_json_lines(path);
    const auto dolly = read_records(test::shared_path("data/dolly-15k/databricks-dolly-15k.jsonl"));
    const auto alpaca = PromptTemplate::load(test::shared_path("data/prompts/alpaca.json"));
    std::vector<Record> chosen;
    for (const Json& line : expected) chosen.push_back(dolly.at(line["record"].as_int()));
    ASSERT_EQ(chosen.size(), 120U);

    const EncodedRecords all =
        encode_records(chosen, &tokenizer, alpaca, {.cutoff_len = 512}, tokenizer.vocab_size());

    for (std::int64_t i = 0; i < all.size(); ++i) {
        const Ids got(all.tokens.begin() + all.begin[i], all.tokens.begin() + all.begin[i + 1]);
        EXPECT_EQ(got, test::as_ids(expected[i]["input_ids"])) << "record " << i;
        EXPECT_EQ(first_label(all, i), expected[i]["first_label"].as_int()) << "record " << i;
    }
    // The same file read as tokenised records is the same training data.
    const EncodedRecords tokenised =
        encode_records(read_records(path), nullptr, alpaca, {}, tokenizer.vocab_size());
    EXPECT_EQ(tokenised.tokens, all.tokens);
    EXPECT_EQ(tokenised.labels, all.labels);
    EXPECT_EQ(tokenised.begin, all.begin);
}

TEST(PromptFixture, Story656k) {
    FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/prompts"));
    FEDIT_REQUIRE_SHARED(test::shared_path("data/dolly-15k"));
    expect_prompt_fixture(Tokenizer::load(test::shared_path("data/models/story-656k")),
                          "story-656k");
}

class PromptFixtures : public testing::TestWithParam<std::string> {};

TEST_P(PromptFixtures, GiveTheIdsAndFirstLabelsOfTheLibrary) {
    FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/prompts"));
    FEDIT_REQUIRE_SHARED(test::shared_path("data/dolly-15k"));
    expect_prompt_fixture(Tokenizer::load(test::family_folder(GetParam())), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Families, PromptFixtures,
                         testing::Values("gpt2", "llama3", "qwen2", "llama2"),
                         [](const auto& test_case) { return test_case.param; });

// SentencePiece's own file gives what the tokenizer.json made of it gives.
TEST(PromptFixture, Llama2FromTokenizerModel) {
    FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/prompts"));
    FEDIT_REQUIRE_SHARED(test::shared_path("data/dolly-15k"));
    expect_prompt_fixture(Tokenizer::load(test::llama2_model_folder()), "llama2");
}

// Labelled targets of the held-out records, by category, as an independent program counted them.
TEST(StoryFixture, CountsTargetsByCategory) {
    const auto path = test::shared_path("fixtures/story/evaluate.json");
    FEDIT_REQUIRE_SHARED(path);
    const Json expected = Json::parse_file(path);
    const Tokenizer tokenizer = Tokenizer::load(test::shared_path("data/models/story-656k"));
    const auto alpaca = PromptTemplate::load(test::shared_path("data/prompts/alpaca.json"));
    const auto records =
        read_records(test::shared_path("data/dolly-15k/clients-10/global_test.json"));
    for (const bool train_on_inputs : {false, true}) {
        const Json want = expected[train_on_inputs ? "train_on_inputs" : "response_only"];
        const EncodedRecords all =
            encode_records(records, &tokenizer, alpaca, {.train_on_inputs = train_on_inputs}, 2048);
        std::vector<std::int64_t> targets(all.categories.size());
        for (std::int64_t i = 0; i < all.size(); ++i) targets[all.category[i]] += all.targets[i];
        EXPECT_EQ(all.size() - all.records_with_target(), want["records_without_label"].as_int());
        ASSERT_EQ(all.categories.size(), want["by_category"].size());
        for (std::size_t c = 0; c < targets.size(); ++c) {
            const Json row = want["by_category"][all.categories[c]];
            EXPECT_EQ(targets[c], row["labelled_tokens"].as_int()) << all.categories[c];
        }
    }
}

}  // namespace
}  // namespace fedit
