// tests/text/tokenizer_errors_test.cpp: tokenizers and texts that are refused, and what is said.
#include "fedit/text/tokenizer.h"

#include "tests/text/text_support.h"

namespace fedit {
namespace {

struct Refused {
    std::string name;
    std::vector<test::Change> changes;  // of the tiny tokenizer
    std::vector<std::string> says;
};

class TokenizerRefuses : public testing::TestWithParam<Refused> {};

TEST_P(TokenizerRefuses, NamingFileFieldValueAndRemedy) {
    const auto folder = test::fresh_folder("refused." + GetParam().name);
    const auto path = test::write_file(folder / "tokenizer.json",
                                       test::changed(test::tiny_tokenizer, GetParam().changes));
    const std::string message = test::input_error([&] { Tokenizer::load(folder); });
    test::expect_says(message, {path.string()});
    test::expect_says(message, GetParam().says);
}

INSTANTIATE_TEST_SUITE_P(
    Files, TokenizerRefuses,
    testing::ValuesIn(std::vector<Refused>{
        {"not_json", {{"\"pre_tokenizer\"", "pre_tokenizer"}}, {"not valid JSON"}},
        {"no_model", {{"\"model\"", "\"modell\""}}, {"\"model\" is missing"}},
        {"other_model",
         {{"\"BPE\"", "\"Unigram\""}},
         {"\"Unigram\" is not supported", "field model.type", "supported models: BPE"}},
        {"dropout", {{"\"dropout\": null", "\"dropout\": 0.1"}}, {"0.1", "field model.dropout"}},
        {"subword_prefix",
         {{"\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"##\""}},
         {"\"##\"", "field model.continuing_subword_prefix"}},
        {"word_suffix",
         {{"\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\""}},
         {"\"</w>\"", "field model.end_of_word_suffix"}},
        {"unknown_token",
         {{"\"unk_token\": \"<unk>\"", "\"unk_token\": \"<none>\""}},
         {"\"<none>\" is not in the vocabulary", "field model.unk_token"}},
        {"no_unknown_token",
         {{"\"unk_token\": \"<unk>\"", "\"unk_token\": null"}},
         {"characters outside the vocabulary would vanish", "field model.unk_token"}},
        {"merge_of_nothing",
         {{"\"a b\"", "\"a c\""}},
         {"needs the token \"c\"", "field model.merges[0]"}},
        {"merge_without_result",
         {{"\"a b\"", "\"b a\""}},
         {"needs the token \"ba\"", "field model.merges[0]"}},
        {"merge_of_three", {{"\"a b\"", "\"a b c\""}}, {"\"a b c\"", "field model.merges[0]"}},
        {"merge_of_one", {{"[\"▁\", \"ab\"]", "[\"▁\"]"}}, {"field model.merges[1]"}},
        {"shared_id", {{"\"b\": 5", "\"b\": 4"}}, {"share the id 4", "field model.vocab"}},
        {"token_twice",
         {{"\"b\": 5", "\"b\": 5, \"b\": 14"}},
         {"\"b\" appears twice", "model.vocab.b"}},
        {"empty_token", {{"\"b\": 5", "\"\": 5"}}, {"id 5 is empty", "field model.vocab"}},
        {"huge_id",
         {{"\"b\": 5", "\"b\": 4194305"}},
         {"4194305 is out of range", "field model.vocab.b"}},
        {"fractional_id", {{"\"b\": 5", "\"b\": 5.5"}}, {"5.5", "field model.vocab.b"}},
        {"huge_added_id",
         {{"\"id\": 11,", "\"id\": 9223372036854775807,"}},
         {"is out of range", "field added_tokens[3].id"}},
        {"negative_id", {{"\"b\": 5", "\"b\": -5"}}, {"-5", "field model.vocab.b"}},
        {"normalizer",
         {{"{\"type\": \"Prepend\", \"prepend\": \"▁\"}", "{\"type\": \"NFKC\"}"}},
         {"\"NFKC\"", "field normalizer.normalizers[0].type", "Prepend, Replace"}},
        {"regex_replace",
         {{"{\"String\": \" \"}", "{\"Regex\": \" +\"}"}},
         {"Regex", "field normalizer.normalizers[1].pattern"}},
        {"byte_level",
         {{"\"pre_tokenizer\": null", "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}"}},
         {"is missing", "field pre_tokenizer.add_prefix_space"}},
        {"other_pre_tokenizer",
         {{"\"pre_tokenizer\": null", "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}"}},
         {"\"BertPreTokenizer\" is not supported", "field pre_tokenizer.type", "Metaspace"}},
        {"invalid_pattern",
         {{"\"pre_tokenizer\": null",
           "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a\"}, "
           "\"behavior\": \"Isolated\", \"invert\": false}"}},
         {"(a", "field pre_tokenizer.pattern.Regex"}},
        {"metaspace_without_replacement",
         {{"\"pre_tokenizer\": null",
           "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"first\"}"}},
         {"is missing", "field pre_tokenizer.replacement"}},
        {"metaspace_scheme",
         {{"\"pre_tokenizer\": null",
           "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"last\", "
           "\"replacement\": \"\u2581\", \"split\": false}"}},
         {"\"last\"", "field pre_tokenizer.prepend_scheme", "always, first, never"}},
        {"post_processor",
         {{"\"TemplateProcessing\"", "\"RobertaProcessing\""}},
         {"\"RobertaProcessing\"", "field post_processor.type"}},
        {"template_without_text",
         {{", {\"Sequence\": {\"id\": \"A\"}}", ""}},
         {"field post_processor.single"}},
        {"template_id", {{"\"ids\": [1]", "\"ids\": [99]"}}, {"id 99, which no token has"}},
        {"decoder",
         {{"{\"type\": \"ByteFallback\"}", "{\"type\": \"WordPiece\"}"}},
         {"\"WordPiece\"", "field decoder.decoders[1].type"}},
        {"added_id_differs",
         {{"\"id\": 2,", "\"id\": 14,"}},
         {"\"</s>\" has the id 14", "gives it 2", "field added_tokens[2].id"}},
        {"added_id_taken",
         {{"\"id\": 11,", "\"id\": 4,"}},
         {"has the id 4", "gives that to \"a\"", "field added_tokens[3].id"}},
        {"added_id_twice", {{"\"id\": 12,", "\"id\": 11,"}}, {"field added_tokens[4].id"}},
        {"added_and_empty",
         {{"\"content\": \"<x>\"", "\"content\": \"\""}},
         {"field added_tokens[3].content"}},
    }),
    [](const auto& test_case) { return test_case.param.name; });

TEST(TokenizerErrors, TellsAllFaultyAddedTokensAtOnce) {
    const auto folder =
        test::tiny_folder({{"\"id\": 2,", "\"id\": 14,"}, {"\"id\": 11,", "\"id\": 4,"}});
    const std::string message = test::input_error([&] { Tokenizer::load(folder); });
    test::expect_says(message, {"added_tokens[2].id", "added_tokens[3].id"});
}

std::string repeated(std::string_view part, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all.append(i == 0 ? "" : ", ").append(part);
    return all;
}

// Each of these is a few hundred bytes of a file that would ask for more memory than there is.
TEST(TokenizerErrors, RefusesStepsThatMultiplyAText) {
    const std::string tenfold =
        R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"})";
    const std::string bytes = R"({"type": "ByteLevel", "add_prefix_space": false})";
    const std::string stretched = "together stretch a text at most 4096 times";
    const auto refused = [](const test::Change& change, const std::vector<std::string>& says) {
        const auto folder = test::tiny_folder({change});
        test::expect_says(test::input_error([&] { Tokenizer::load(folder); }), says);
    };
    const std::string prepend = R"({"type": "Prepend", "prepend": "▁"})";
    refused({prepend, repeated(tenfold, 20)}, {stretched, "field normalizer.normalizers[3]"});
    refused({prepend, repeated(prepend, 300)}, {"at most 256 steps", "normalizers[256]"});
    refused({R"({"type": "Fuse"})", repeated(tenfold, 20)}, {stretched, "decoder.decoders[5]"});
    refused({R"({"type": "Fuse"})", repeated(R"({"type": "Fuse"})", 300)}, {"at most 256 steps"});
    refused({R"("pre_tokenizer": null)", R"("pre_tokenizer": {"type": "Sequence",
                                             "pretokenizers": [)" +
                                             repeated(bytes, 2) + "]}"},
            {"ByteLevel once", "field pre_tokenizer.pretokenizers[1]"});
    refused({R"({"SpecialToken": {"id": "<s>"}})",
             repeated(R"({"SpecialToken": {"id": "<s>"}})", 1025)},
            {"fewer special tokens", "field post_processor.single"});
}

TEST(TokenizerErrors, GivesUpOnAnExpressionThatBacktracksWithoutEnd) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder(
        {{R"("pre_tokenizer": null)",
          R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?:a|a|aa)+c"},
             "behavior": "Isolated"})"}}));
    std::string text(200, 'a');
    text += "bc";
    test::expect_says(test::input_error([&] { (void)tokenizer.encode(text, SpecialTokens::none); }),
                      {"gives up on a text of 205 bytes", "field pre_tokenizer.pattern.Regex"});
}

TEST(TokenizerErrors, NamesTheMissingFile) {
    const auto folder = test::test_folder();
    test::expect_says(test::input_error([&] { Tokenizer::load(folder); }),
                      {"there is no tokenizer.json", (folder / "tokenizer.json").string()});
}

TEST(TokenizerErrors, NamesAnEosThatIsNoToken) {
    const auto folder = test::tiny_folder();
    test::write_file(folder / "tokenizer_config.json", R"({"eos_token": "<end>"})");
    test::expect_says(test::input_error([&] { Tokenizer::load(folder); }),
                      {"\"<end>\" is not a token", "tokenizer_config.json, field eos_token"});
}

TEST(TokenizerErrors, NamesAConfigurationThatContradictsTheTemplate) {
    const auto folder = test::tiny_folder();
    test::write_file(folder / "tokenizer_config.json",
                     R"({"eos_token": "</s>", "add_eos_token": true})");
    test::expect_says(test::input_error([&] { Tokenizer::load(folder); }),
                      {"true contradicts", "tokenizer_config.json, field add_eos_token"});
}

TEST(TokenizerErrors, NamesTheFirstByteThatIsNotUtf8) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    const std::vector<std::string> texts{
        "ab\x80",     "ab\xC0\xAF",         "ab\xED\xA0\x80", "ab\xF5\x80\x80\x80",
        "ab\xE2\x82", "ab\xF0\x8F\xBF\xBF", "ab\xE0\x9F\xBF"};
    for (const std::string& text : texts) {
        test::expect_says(
            test::input_error([&] { (void)tokenizer.encode(text, SpecialTokens::none); }),
            {"not valid UTF-8", "byte 2"});
    }
}

}  // namespace
}  // namespace fedit
