// text/tokenizer.cpp: text to token ids and back.
#include "fedit/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

#include "fedit/core/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace fedit {
namespace {

// Positions are 32 bits wide, and a normalised text may be three times as long as its source.
constexpr std::size_t max_text = std::size_t{1} << 29;

std::vector<AddedToken> with_normalized(const std::vector<AddedToken>& tokens, bool normalized) {
    std::vector<AddedToken> result;
    std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(result),
                 [&](const AddedToken& token) { return token.normalized == normalized; });
    return result;
}

// How many characters at the begin of a spelling are white space, in either alphabet.
std::size_t leading_spaces(std::string_view spelling) {
    constexpr char32_t space_in_byte_alphabet = 0x120;
    std::size_t count = 0;
    for (std::size_t at = 0; at < spelling.size(); at += utf8_length(spelling[at])) {
        const char32_t character = code_point_at(spelling, at);
        if (character != space_in_byte_alphabet && !is_unicode_space(character)) break;
        ++count;
    }
    return count;
}

void check_text(std::string_view text) {
    if (text.size() > max_text) {
        throw InputError({.what = fmt::format("a text of {} bytes is too long", text.size()),
                          .where = "text to tokenise",
                          .remedy = fmt::format("at most {} bytes at once", max_text)});
    }
    const std::size_t invalid = first_invalid_utf8(text);
    if (invalid == text.size()) return;
    throw InputError({.what = fmt::format("byte 0x{:02X} is not valid UTF-8",
                                          static_cast<unsigned char>(text[invalid])),
                      .where = fmt::format("text to tokenise, byte {}", invalid),
                      .remedy = "convert the text to UTF-8"});
}

}  // namespace

struct Tokenizer::Impl {
    explicit Impl(TokenizerFile read);
    /// What decoding makes of an id; empty: nothing.
    std::string_view spelling(std::int32_t id) const;
    bool is_special(std::int32_t id) const;

    struct Added {
        std::string spelling;
        bool special;
    };
    class Encoder;

    TokenizerFile file;
    AddedTokenMatcher raw, normalized;  // look for tokens before and after normalisation
    std::unordered_map<std::int32_t, Added> added;
    std::int64_t vocab_size;
};

Tokenizer::Impl::Impl(TokenizerFile read)
    : file(std::move(read)),
      raw(with_normalized(file.added, false)),
      normalized(with_normalized(file.added, true)),
      vocab_size(static_cast<std::int64_t>(file.model.spellings().size())) {
    for (const AddedToken& token : file.added) {
        // A token that is looked for in normalised text is also spelled so; and if that is another
        // spelling, the library tokenizers shows it even where special tokens are left out.
        added[token.id] = {token.pattern, token.special && token.pattern == token.content};
        vocab_size = std::max(vocab_size, std::int64_t{token.id} + 1);
    }
}

std::string_view Tokenizer::Impl::spelling(std::int32_t id) const {
    if (const auto found = added.find(id); found != added.end()) return found->second.spelling;
    const std::vector<std::string>& spellings = file.model.spellings();
    if (id < 0 || static_cast<std::size_t>(id) >= spellings.size()) return {};
    return spellings[id];
}

bool Tokenizer::Impl::is_special(std::int32_t id) const {
    const auto found = added.find(id);
    return found != added.end() && found->second.special;
}

// One text on its way to ids. Added tokens are cut out of the text itself first, and then out of
// each normalised rest, so that every rest is normalised (and gets its prefix) on its own.
class Tokenizer::Impl::Encoder {
public:
    Encoder(const Impl& impl, std::string_view text, Encoding& out)
        : impl_(impl), text_(text), out_(out), encoder_(impl.file.model) {}

    void run() {
        for (const Section& section : impl_.raw.split(text_)) {
            if (section.id == Section::plain) {
                encode_plain(section);
            } else {
                add(section.id, section.begin, section.end);
            }
        }
    }

private:
    void encode_plain(const Section& outer);
    void encode_pieces(const MappedText& part);
    void add(std::int32_t id, std::size_t begin, std::size_t end);
    std::size_t without_space(std::int32_t id, std::size_t begin, std::size_t end) const;

    const Impl& impl_;
    std::string_view text_;
    Encoding& out_;
    BpeModel::Encoder encoder_;
    std::vector<PlacedToken> tokens_;
};

void Tokenizer::Impl::Encoder::encode_plain(const Section& outer) {
    MappedText rest = MappedText::slice(text_, outer.begin, outer.end);
    impl_.file.normalizer.apply(rest);
    const auto end_of = [&](std::size_t byte) {
        return rest.origin[byte] + utf8_length(text_[rest.origin[byte]]);
    };
    for (const Section& section : impl_.normalized.split(rest.text)) {
        if (section.id == Section::plain) {
            encode_pieces(rest.part(section.begin, section.end));
        } else {
            add(section.id, rest.origin[section.begin], end_of(section.end - 1));
        }
    }
}

void Tokenizer::Impl::Encoder::encode_pieces(const MappedText& part) {
    const PieceList list = impl_.file.pre_tokenizer.apply(part);
    const std::vector<std::uint32_t>& origin = list.text.origin;
    for (const Piece& piece : list.pieces) {
        tokens_.clear();
        encoder_.encode(
            std::string_view(list.text.text).substr(piece.begin, piece.end - piece.begin), tokens_);
        for (std::size_t i = 0; i < tokens_.size(); ++i) {
            const std::size_t begin = piece.begin + tokens_[i].begin;
            const std::size_t end =
                i + 1 < tokens_.size() ? piece.begin + tokens_[i + 1].begin : piece.end;
            // All byte tokens of a character begin with it: `end` may be `begin`, and that 0.
            const std::uint32_t last = origin[std::max(end, begin + 1) - 1];
            add(tokens_[i].id, origin[begin], last + utf8_length(text_[last]));
        }
    }
}

void Tokenizer::Impl::Encoder::add(std::int32_t id, std::size_t begin, std::size_t end) {
    if (impl_.file.around.begins != PostProcessor::Begins::with_space) {
        begin = without_space(id, begin, end);
    }
    out_.ids.push_back(id);
    out_.begins.push_back(static_cast<std::uint32_t>(begin));
}

std::size_t Tokenizer::Impl::Encoder::without_space(std::int32_t id, std::size_t begin,
                                                    std::size_t end) const {
    const bool is_first = begin == 0 || out_.ids.empty();
    if (is_first && impl_.file.around.begins == PostProcessor::Begins::behind_space_but_first) {
        return begin;
    }
    for (std::size_t left = leading_spaces(impl_.spelling(id)); left > 0 && begin < end; --left) {
        begin += utf8_length(text_[begin]);
    }
    return begin;
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
    return Tokenizer(std::make_unique<const Impl>(TokenizerFile::read(folder)));
}

Encoding Tokenizer::encode(std::string_view text, SpecialTokens special) const {
    check_text(text);
    Encoding out;
    Impl::Encoder(*impl_, text, out).run();
    if (special == SpecialTokens::none) return out;
    const PostProcessor& around = impl_->file.around;
    out.ids.insert(out.ids.begin(), around.before.begin(), around.before.end());
    out.begins.insert(out.begins.begin(), around.before.size(), 0);
    if (special == SpecialTokens::before) return out;
    out.ids.insert(out.ids.end(), around.behind.begin(), around.behind.end());
    out.begins.resize(out.ids.size(), static_cast<std::uint32_t>(text.size()));
    return out;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, SpecialText special) const {
    TokenStream stream(*this, special);
    std::string text;
    for (const std::int32_t id : ids) text += stream.push(id);
    return text += stream.finish();
}

std::int64_t Tokenizer::vocab_size() const {
    return impl_->vocab_size;
}
std::optional<std::int32_t> Tokenizer::bos() const {
    return impl_->file.bos;
}
std::optional<std::int32_t> Tokenizer::eos() const {
    return impl_->file.eos;
}
std::optional<std::int32_t> Tokenizer::find(const std::string& token) const {
    return impl_->file.find(token);
}
std::string_view Tokenizer::token(std::int32_t id) const {
    return impl_->spelling(id);
}
bool Tokenizer::is_special(std::int32_t id) const {
    return impl_->is_special(id);
}
const std::string& Tokenizer::fingerprint() const {
    return impl_->file.fingerprint;
}

struct TokenStream::Impl {
    const Tokenizer::Impl& tokenizer;
    SpecialText special;
    TokenDecoder::Stream stream;
};

TokenStream::TokenStream(const Tokenizer& tokenizer, SpecialText special)
    : impl_(new Impl{*tokenizer.impl_, special,
                     TokenDecoder::Stream(tokenizer.impl_->file.decoder)}) {}
TokenStream::~TokenStream() = default;
TokenStream::TokenStream(TokenStream&&) noexcept = default;
TokenStream& TokenStream::operator=(TokenStream&&) noexcept = default;

std::string TokenStream::push(std::int32_t id) {
    const std::string_view spelling = impl_->tokenizer.spelling(id);
    if (spelling.empty()) return {};
    if (impl_->special == SpecialText::skip && impl_->tokenizer.is_special(id)) return {};
    return impl_->stream.push(spelling);
}

std::string TokenStream::finish() {
    return impl_->stream.finish();
}

}  // namespace fedit
