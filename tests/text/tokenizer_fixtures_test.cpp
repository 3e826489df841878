// tests/text/tokenizer_fixtures_test.cpp: ids and text of real tokenizers, as the libraries that
// define their formats give them.
#include <algorithm>

#include "fedit/text/tokenizer.h"
#include "tests/text/text_support.h"

namespace fedit {
namespace {

using Ids = std::vector<std::int32_t>;
using Begins = std::vector<std::uint32_t>;

Encoding plain(const Tokenizer& tokenizer, std::string_view text) {
    return tokenizer.encode(text, SpecialTokens::none);
}

void expect_sound_begins(const Encoding& encoding, const std::string& text) {
    ASSERT_EQ(encoding.begins.size(), encoding.ids.size());
    EXPECT_TRUE(std::is_sorted(encoding.begins.begin(), encoding.begins.end()));
    if (encoding.begins.empty()) return;
    EXPECT_EQ(encoding.begins.front(), 0U);
    for (const std::uint32_t begin : encoding.begins) {
        ASSERT_LT(begin, text.size());
        EXPECT_NE(static_cast<unsigned char>(text[begin]) & 0xC0, 0x80) << "inside a character";
    }
}

std::string streamed(const Tokenizer& tokenizer, const Ids& ids) {
    TokenStream stream(tokenizer, SpecialText::keep);
    std::string text;
    for (const std::int32_t id : ids) text += stream.push(id);
    return text + stream.finish();
}

// Ids and text of hundreds of strings from the library that defines the format.
void expect_fixture(const Tokenizer& tokenizer, const std::string& name) {
    const auto texts =
        test::read_json_lines(test::shared_path("fixtures/tokenizers/strings.jsonl"));
    const auto expected =
        test::read_json_lines(test::shared_path("fixtures/tokenizers/" + name + ".expected.jsonl"));
    ASSERT_GT(texts.size(), 300U);
    ASSERT_EQ(expected.size(), texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
        SCOPED_TRACE("string " + std::to_string(i));
        const std::string& text = texts[i].as_string();
        const Encoding encoding = plain(tokenizer, text);
        EXPECT_EQ(encoding.ids, test::as_ids(expected[i]["ids"])) << text;
        EXPECT_EQ(tokenizer.decode(encoding.ids, SpecialText::keep),
                  expected[i]["decoded"].as_string());
        EXPECT_EQ(streamed(tokenizer, encoding.ids), expected[i]["decoded"].as_string());
        expect_sound_begins(encoding, text);
    }
}

std::vector<std::string> split_at(std::string_view text, std::string_view separator) {
    std::vector<std::string> parts;
    for (std::size_t at = text.find(separator); at != std::string_view::npos;
         at = text.find(separator)) {
        parts.emplace_back(text.substr(0, at));
        text.remove_prefix(at + separator.size());
    }
    parts.emplace_back(text);
    return parts;
}

// Strings and ids that another implementation is tested with.
void expect_vectors(const Tokenizer& tokenizer, const std::string& name) {
    const std::filesystem::path folder = test::shared_path("data/tokenizers/vectors");
    const auto texts =
        split_at(read_text_file(folder / (name + ".inp")), "\n__ggml_vocab_test__\n");
    const auto lines = split_at(read_text_file(folder / (name + ".out")), "\n");
    ASSERT_EQ(texts.size(), 47U);
    ASSERT_GE(lines.size(), 46U);
    for (std::size_t i = 0; i < 46; ++i) {
        Ids expected;
        for (const std::string& id : split_at(lines[i], " ")) {
            if (!id.empty()) expected.push_back(std::stoi(id));
        }
        EXPECT_EQ(plain(tokenizer, texts[i]).ids, expected) << i << ": " << texts[i];
    }
}

struct Family {
    std::string name, vectors;
    std::int64_t vocab_size;
    std::optional<std::int32_t> bos, eos;
};

class TokenizerFixtures : public testing::TestWithParam<Family> {
protected:
    void SetUp() override {
        FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/tokenizers"));
        FEDIT_REQUIRE_SHARED(test::shared_path("data/tokenizers"));
    }
};

TEST_P(TokenizerFixtures, GiveTheIdsAndTextOfTheLibrary) {
    const auto& [name, vectors, vocab_size, bos, eos] = GetParam();
    const Tokenizer tokenizer = Tokenizer::load(test::family_folder(name));
    EXPECT_EQ(tokenizer.vocab_size(), vocab_size);
    EXPECT_EQ(tokenizer.bos(), bos);
    EXPECT_EQ(tokenizer.eos(), eos);
    EXPECT_TRUE(tokenizer.is_special(*eos));
    expect_fixture(tokenizer, name);
}

TEST_P(TokenizerFixtures, GiveTheIdsOfOtherPrograms) {
    expect_vectors(Tokenizer::load(test::family_folder(GetParam().name)), GetParam().vectors);
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerFixtures,
                         testing::Values(Family{"gpt2", "gpt-2", 50257, std::nullopt, 50256},
                                         Family{"llama3", "llama-bpe", 128010, 128000, 128001},
                                         Family{"qwen2", "qwen2", 151646, std::nullopt, 151643},
                                         Family{"llama2", "llama-spm", 32000, 1, 2}),
                         [](const auto& test_case) { return test_case.param.name; });

TEST_F(TokenizerFixtures, Llama2FromTokenizerModel) {
    const Tokenizer tokenizer = Tokenizer::load(test::llama2_model_folder());
    EXPECT_EQ(tokenizer.vocab_size(), 32000);
    EXPECT_EQ(tokenizer.bos(), 1);
    EXPECT_EQ(tokenizer.eos(), 2);
    EXPECT_EQ(tokenizer.encode("", SpecialTokens::add).ids, Ids{1});
    expect_fixture(tokenizer, "llama2");
    expect_vectors(tokenizer, "llama-spm");
}

TEST(TokenizerFixture, Story656k) {
    const auto folder = test::shared_path("data/models/story-656k");
    FEDIT_REQUIRE_SHARED(folder);
    FEDIT_REQUIRE_SHARED(test::shared_path("fixtures/tokenizers"));
    const Tokenizer tokenizer = Tokenizer::load(folder);
    EXPECT_EQ(tokenizer.vocab_size(), 2048);
    expect_fixture(tokenizer, "story-656k");
}

// Offsets as the same library gives them, from characters to bytes.
TEST_F(TokenizerFixtures, BeginsOfLlama2Tokens) {
    const Tokenizer tokenizer = Tokenizer::load(test::family_folder("llama2"));
    EXPECT_EQ(plain(tokenizer, "Hello world").begins, (Begins{0, 5}));
    EXPECT_EQ(plain(tokenizer, " hi").begins, (Begins{0, 0}));
    EXPECT_EQ(plain(tokenizer, "a</s> b<s>c").begins, (Begins{0, 1, 5, 5, 7, 10}));
    EXPECT_EQ(plain(tokenizer, "\U0001F999 \U0001F999a").begins,
              (Begins{0, 0, 0, 0, 0, 4, 5, 5, 5, 5, 9}));
}

}  // namespace
}  // namespace fedit
