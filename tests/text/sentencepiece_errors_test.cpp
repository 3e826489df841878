// tests/text/sentencepiece_errors_test.cpp: SentencePiece models that are refused, and what is
// said.
#include <bit>
#include <limits>

#include "fedit/text/tokenizer.h"
#include "tests/text/text_support.h"

namespace fedit {
namespace {

// The wire format (https://protobuf.dev/programming-guides/encoding), written by hand.
std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value > 0x7F; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
    return bytes + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) {
    return varint(static_cast<std::uint64_t>(field) << 3) + varint(value);
}
std::string bytes(int field, const std::string& value) {
    return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(value.size()) + value;
}
std::string fixed32(int field, float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    std::string text = varint(static_cast<std::uint64_t>(field) << 3 | 5);
    for (int shift = 0; shift < 32; shift += 8) text += static_cast<char>(bits >> shift);
    return text;
}

enum Type { normal = 1, unknown = 2, control = 3, unused = 5 };
std::string piece(const std::string& text, float score = 0, int type = normal) {
    return bytes(1, bytes(1, text) + fixed32(2, score) + number(3, static_cast<unsigned>(type)));
}

const std::string roles = piece("<unk>", 0, unknown) + piece("<s>", 0, control);
const std::string letters = piece("\u2581", -3) + piece("a", -4) + piece("b", -5);
const std::string bpe = bytes(2, number(3, 2));
const std::string plain_rules = bytes(3, number(4, 0));
const std::string sound = roles + letters + piece("ab", -1) + bpe + plain_rules;

Tokenizer load(const std::string& model) {
    const auto folder = test::test_folder();
    test::write_file(folder / "tokenizer.model", model);
    return Tokenizer::load(folder);
}

void expect_refused(const std::string& model, std::vector<std::string> says) {
    says.emplace_back("tokenizer.model");
    test::expect_says(test::input_error([&] { load(model); }), says);
}

TEST(SentencePiece, ASoundModelIsRead) {
    const Tokenizer tokenizer = load(sound);
    EXPECT_EQ(tokenizer.vocab_size(), 6);
    EXPECT_EQ(tokenizer.encode("ab", SpecialTokens::none).ids, (std::vector<std::int32_t>{2, 5}));
}

TEST(SentencePiece, FieldsThatItDoesNotKnowAreLeftOut) {
    const std::string later = varint(99U << 3 | 1) + std::string(8, 'x') + number(98, 7);
    EXPECT_EQ(load(sound + later).vocab_size(), 6);
}

TEST(SentencePiece, EveryCutInsideAFieldIsRefused) {
    const std::string last = bytes(3, bytes(1, "identity") + number(4, 0));
    const std::string model = roles + letters + bpe;
    EXPECT_NO_THROW(load(model + last));
    for (std::size_t size = 1; size < last.size(); ++size) {
        expect_refused(model + last.substr(0, size), {"byte "});
    }
}

TEST(SentencePiece, RefusesADamagedFile) {
    expect_refused("", {"there are no pieces"});
    expect_refused(sound + std::string(10, '\xFF'), {"more than ten bytes"});
    expect_refused(sound + "\x80", {"ends inside a number"});
    expect_refused(sound + varint(1 << 3 | 2) + varint(1'000'000), {"1000000 bytes is cut off"});
    expect_refused(sound + varint(1 << 3 | 2) + varint(~std::uint64_t{0}), {"is cut off"});
    expect_refused(sound + varint(0 << 3), {"no field with the number 0"});
    expect_refused(sound + varint(std::uint64_t{1} << 32), {"no field with the number 536870912"});
    expect_refused(sound + varint(9 << 3 | 3), {"field 9 has the wire type 3"});
}

TEST(SentencePiece, RefusesFieldsOfAnotherWireType) {
    expect_refused(sound + number(1, 5), {"pieces has the wire type 0, but is text"});
    expect_refused(sound + fixed32(2, 1), {"trainer_spec has the wire type 5"});
    expect_refused(sound + bytes(1, number(1, 7)), {"pieces.piece has the wire type 0"});
    expect_refused(sound + bytes(1, number(2, 7)), {"pieces.score has the wire type 0"});
    expect_refused(sound + bytes(1, bytes(3, "x")), {"pieces.type has the wire type 2"});
    expect_refused(sound + bytes(2, fixed32(3, 2)), {"trainer_spec.model_type", "an integer"});
    expect_refused(sound + bytes(3, bytes(3, "x")), {"normalizer_spec.add_dummy_prefix"});
}

TEST(SentencePiece, RefusesPiecesThatCannotBe) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const auto with = [](const std::string& more) { return sound + more; };
    expect_refused(bpe + plain_rules, {"there are no pieces", "0 pieces have the type 2"});
    expect_refused(with(piece("")), {"the piece is empty", "pieces[6].piece"});
    expect_refused(with(piece("\xC3")), {"not valid UTF-8", "pieces[6].piece"});
    expect_refused(with(piece("a")), {"\"a\" is there twice", "pieces[6].piece"});
    expect_refused(with(piece(std::string(513, 'a'))), {"513 bytes is too long"});
    expect_refused(with(piece("aa", std::numeric_limits<float>::quiet_NaN())),
                   {"nan is no number to sort by", "pieces[6].score"});
    expect_refused(with(piece("aa", -infinity)), {"-inf is no number", "pieces[6].score"});
    expect_refused(with(piece("aa", 0, 7)), {"no piece type 7", "pieces[6].type"});
    expect_refused(with(piece("aa", 0, unused)), {"type 5 (unused)", "pieces[6].type"});
    expect_refused(with(piece("<u>", 0, unknown)), {"2 pieces have the type 2", "exactly one"});
    expect_refused(with(piece("ac")), {"\"ac\" has the character \"c\"", "pieces[6].piece"});
}

TEST(SentencePiece, RefusesByteFallbackWithoutItsPieces) {
    expect_refused(sound + bytes(2, number(35, 1)),
                   {"no piece <0x00>", "give all 256 byte pieces", "and 236 more faults"});
}

TEST(SentencePiece, RefusesSettingsThatItDoesNotHonour) {
    expect_refused(roles + letters + plain_rules, {"model type 1 (unigram) is not supported"});
    expect_refused(sound + bytes(2, number(3, ~std::uint64_t{0})), {"model type -1"});
    expect_refused(sound + bytes(2, number(24, 1)), {"treat_whitespace_as_suffix"});
    expect_refused(roles + letters + bpe, {"remove_extra_whitespaces"});
    expect_refused(sound + bytes(3, number(5, 0)), {"escape_whitespaces"});
    expect_refused(sound + bytes(3, bytes(1, "nmt_nfkc") + bytes(2, "table")),
                   {"\"nmt_nfkc\"", "precompiled_charsmap"});
    expect_refused(sound + bytes(5, bytes(2, "table")), {"denormalizer_spec"});
}

}  // namespace
}  // namespace fedit
