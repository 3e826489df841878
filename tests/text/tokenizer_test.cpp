// tests/text/tokenizer_test.cpp: tokens worked out by hand, and those of an independent library.
#include "fedit/text/tokenizer.h"

#include "tests/text/text_support.h"

namespace fedit {
namespace {

using Ids = std::vector<std::int32_t>;
using Begins = std::vector<std::uint32_t>;

Encoding plain(const Tokenizer& tokenizer, std::string_view text) {
    return tokenizer.encode(text, SpecialTokens::none);
}

Ids ids_of(const std::vector<test::Change>& changes, std::string_view text) {
    return plain(Tokenizer::load(test::tiny_folder(changes)), text).ids;
}

TEST(Tokenizer, MergesByRankAndSaysWhereTokensBegin) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    const Encoding encoding = plain(tokenizer, "ab a");
    EXPECT_EQ(encoding.ids, (Ids{8, 7}));
    EXPECT_EQ(encoding.begins, (Begins{0, 2}));  // the second begins at its space
    EXPECT_EQ(plain(tokenizer, " a").ids, (Ids{3, 7}));
    EXPECT_EQ(plain(tokenizer, "").ids, Ids{});
    EXPECT_EQ(tokenizer.vocab_size(), 13);
}

TEST(Tokenizer, SpellsUnknownCharactersAsBytesOrAsOneUnknown) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    const Encoding bytes = plain(tokenizer, "a\u00e9");
    EXPECT_EQ(bytes.ids, (Ids{7, 9, 10}));
    EXPECT_EQ(bytes.begins, (Begins{0, 1, 1}));  // both bytes begin with their character
    const Encoding unknown = plain(tokenizer, "a zz\u4e00b");
    EXPECT_EQ(unknown.ids, (Ids{7, 3, 0, 5}));
    EXPECT_EQ(unknown.begins, (Begins{0, 1, 2, 7}));
    EXPECT_EQ(ids_of({{"\"fuse_unk\": true", "\"fuse_unk\": false"}}, "azz"), (Ids{7, 0, 0}));
}

TEST(Tokenizer, CutsAddedTokensOutFirstTheLongestAtEachPlace) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    const Encoding encoding = plain(tokenizer, "a</s>b<x>y<x><x");
    EXPECT_EQ(encoding.ids, (Ids{7, 2, 3, 5, 12, 11, 3, 0}));
    EXPECT_EQ(encoding.begins, (Begins{0, 1, 5, 5, 6, 10, 13, 13}));
}

TEST(Tokenizer, LooksForNormalizedAddedTokensInTheNormalizedText) {
    const std::vector<test::Change> changes{{R"("</s>", "special": true, "normalized": false)",
                                             R"("</s>", "special": true, "normalized": true)"}};
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder(changes));
    EXPECT_EQ(plain(tokenizer, "</s>b").ids, (Ids{2, 5}));  // "_</s>b": no second prefix
    EXPECT_EQ(plain(tokenizer, "a</s>").ids, (Ids{7, 0}));  // not "_</s>"
    const Encoding inside = plain(tokenizer, "a </s>");
    EXPECT_EQ(inside.ids, (Ids{7, 2}));
    EXPECT_EQ(inside.begins, (Begins{0, 1}));
    EXPECT_EQ(tokenizer.decode(Ids{7, 2}, SpecialText::keep), "a </s>");
    EXPECT_EQ(tokenizer.decode(Ids{7, 2}), "a </s>") << "as the library tokenizers shows it";
}

TEST(Tokenizer, AddedTokensTakeWhiteSpaceWhereTheyAskForIt) {
    const std::vector<test::Change> changes{
        {R"("</s>",)", R"("</s>", "lstrip": true, "rstrip": true,)"}};
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder(changes));
    const Encoding encoding = plain(tokenizer, "a\u00a0 </s>\u2003\tb");
    EXPECT_EQ(encoding.ids, (Ids{7, 2, 3, 5}));
    EXPECT_EQ(encoding.begins, (Begins{0, 1, 12, 12}));
}

// The library takes the spaces twice: once for the token before them, once for their own.
TEST(Tokenizer, AnAddedTokenOfSpacesCountsThoughAnotherTookThem) {
    const std::vector<test::Change> changes{
        {R"("</s>",)", R"("</s>", "rstrip": true,)"},
        {R"("id": 11, "content": "<x>")", R"("id": 11, "content": "  ")"}};
    EXPECT_EQ(ids_of(changes, "a</s>  b"), (Ids{7, 2, 11, 3, 5}));
    EXPECT_EQ(ids_of(changes, "a</s>    b"), (Ids{7, 2, 11, 11, 3, 5}));
}

TEST(Tokenizer, CutsOutDigitsTogetherOrEachAlone) {
    const auto digits = [](const std::string& alone) -> std::vector<test::Change> {
        return {{R"("pre_tokenizer": null)",
                 R"("pre_tokenizer": {"type": "Digits", "individual_digits": )" + alone + "}"}};
    };
    EXPECT_EQ(ids_of(digits("false"), "12\u0664a\u00bd"), (Ids{3, 0, 4, 0}));
    EXPECT_EQ(ids_of(digits("true"), "12\u0664a\u00bd"), (Ids{3, 0, 0, 0, 4, 0}));
}

// Oniguruma's \w has six characters of Latin-1 more outside of brackets than inside.
TEST(Tokenizer, ReadsWordCharactersAsTheLibraryDoes) {
    const auto removed = [](const std::string& pattern) -> std::vector<test::Change> {
        return {{R"("pre_tokenizer": null)", R"("pre_tokenizer": {"type": "Split", "pattern": )"
                                             R"({"Regex": ")" +
                                                 pattern +
                                                 R"("}, "behavior": "Removed", "invert": false})"}};
    };
    EXPECT_EQ(ids_of(removed(R"(\\w)"), "\u00b2a\u00bd\u0301"), (Ids{3}));
    EXPECT_EQ(ids_of(removed(R"([\\w])"), "\u00b2a\u00bd\u0301"), (Ids{3, 0, 0}));
    EXPECT_EQ(ids_of(removed(R"(\\W)"), "a \u00b2-a"), (Ids{4, 0, 4}));
}

TEST(Tokenizer, HonoursMetaspaceWithoutSplit) {
    const auto metaspace = [](const std::string& scheme) -> std::vector<test::Change> {
        return {{R"("normalizer": {"type": "Sequence", "normalizers": [
  {"type": "Prepend", "prepend": "▁"},
  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})",
                 R"("normalizer": null)"},
                {R"("pre_tokenizer": null)",
                 R"("pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "split": false,
                     "prepend_scheme": ")" +
                     scheme + "\"}"}};
    };
    EXPECT_EQ(ids_of(metaspace("always"), "a</s>b a"), (Ids{7, 2, 3, 5, 7}));
    EXPECT_EQ(ids_of(metaspace("first"), "a</s>b a"), (Ids{7, 2, 5, 7}));
    EXPECT_EQ(ids_of(metaspace("never"), "a</s>b a"), (Ids{4, 2, 5, 7}));
    EXPECT_EQ(ids_of(metaspace("always"), " a"), (Ids{7}));  // one space is prefix enough
}

TEST(Tokenizer, AppliesTheTemplate) {
    const std::vector<test::Change> changes{
        {R"({"Sequence": {"id": "A"}}])",
         R"({"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}])"},
        {R"("<s>": {"ids": [1]})", R"("<s>": {"ids": [1]}, "</s>": {"ids": [2]})"}};
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder(changes));
    const Encoding encoding = tokenizer.encode("ab", SpecialTokens::add);
    EXPECT_EQ(encoding.ids, (Ids{1, 8, 2}));
    EXPECT_EQ(encoding.begins, (Begins{0, 0, 2}));
    EXPECT_EQ(tokenizer.encode("", SpecialTokens::add).ids, (Ids{1, 2}));
    EXPECT_EQ(tokenizer.encode("ab", SpecialTokens::before).ids, (Ids{1, 8}));
    EXPECT_EQ(tokenizer.encode("", SpecialTokens::before).ids, Ids{1});
}

TEST(Tokenizer, DecodesBytesToTextAndBrokenBytesToReplacementCharacters) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    EXPECT_EQ(tokenizer.decode(Ids{7, 9, 10, 5}), "a\u00e9b");
    EXPECT_EQ(tokenizer.decode(Ids{7, 9, 9, 5}), "a\uFFFD\uFFFDb");
    EXPECT_EQ(tokenizer.decode(Ids{3, 7}), " a");              // one leading space is taken off
    EXPECT_EQ(tokenizer.decode(Ids{1, 7, 0, 11, 2}), "a<x>");  // <x> is added, but not special
    EXPECT_EQ(tokenizer.decode(Ids{1, 7, 2}, SpecialText::keep), "<s> a</s>");
    EXPECT_EQ(tokenizer.decode(Ids{7, -1, 13, 5}), "ab");  // ids without a token
    EXPECT_EQ(tokenizer.decode(Ids{}), "");
}

// Without a prefix, the first tokens of a text may all begin with its first byte.
TEST(Tokenizer, ATextMayBeginWithACharacterOfSeveralByteTokens) {
    const Tokenizer tokenizer =
        Tokenizer::load(test::tiny_folder({{R"({"type": "Prepend", "prepend": "▁"},)", ""}}));
    const Encoding encoding = plain(tokenizer, "\u00e9b");
    EXPECT_EQ(encoding.ids, (Ids{9, 10, 5}));
    EXPECT_EQ(encoding.begins, (Begins{0, 0, 2}));
}

TEST(Tokenizer, FindsBosAndEosInEitherFile) {
    const std::filesystem::path folder = test::tiny_folder();
    const Tokenizer without = Tokenizer::load(folder);
    EXPECT_FALSE(without.eos());
    test::write_file(folder / "special_tokens_map.json", R"({"eos_token": {"content": "</s>"}})");
    const Tokenizer mapped = Tokenizer::load(folder);
    EXPECT_EQ(mapped.eos(), 2);
    EXPECT_FALSE(mapped.bos());
    test::write_file(folder / "tokenizer_config.json",
                     R"({"bos_token": "<s>", "eos_token": null, "add_bos_token": true})");
    const Tokenizer configured = Tokenizer::load(folder);
    EXPECT_EQ(configured.bos(), 1);
    EXPECT_FALSE(configured.eos());
    EXPECT_NE(configured.fingerprint(), mapped.fingerprint());
    EXPECT_EQ(configured.fingerprint(), Tokenizer::load(folder).fingerprint());
}

TEST(Tokenizer, EncodesALongRunInOnePiece) {
    const Tokenizer tokenizer = Tokenizer::load(test::tiny_folder());
    std::string text;
    for (int i = 0; i < 500'000; ++i) text += "ab";
    const Encoding encoding = plain(tokenizer, text);
    ASSERT_EQ(encoding.ids.size(), 500'000U);
    EXPECT_EQ(encoding.ids[0], 8);
    EXPECT_EQ(encoding.ids[499'999], 6);
    EXPECT_EQ(encoding.begins[499'999], 999'998U);
    EXPECT_EQ(tokenizer.decode(encoding.ids), text);
}

// Every text without special tokens in it comes back.
TEST(ShippedTokenizer, GivesTextsBack) {
    const Tokenizer tokenizer = Tokenizer::load(test::source_path("data/tiny-llama"));
    for (const char* text : {"", " ", "  two  spaces ", "line\nline\t\r\n",
                             "caf\u00e9 \u4e16\u754c", "\U0001F680\u200d", "x = y ** 2  # 3.14"}) {
        EXPECT_EQ(tokenizer.decode(plain(tokenizer, text).ids), text);
    }
    EXPECT_EQ(tokenizer.encode("a", SpecialTokens::add).ids.front(), tokenizer.bos());
}

}  // namespace
}  // namespace fedit
