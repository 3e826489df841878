// text/tokenizer.cpp: text to token ids and back.
#include "fedit/text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "fedit/core/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
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

std::vector<std::string> contents(const std::vector<AddedToken>& tokens) {
    std::vector<std::string> result;
    for (const AddedToken& token : tokens) result.push_back(token.content);
    return result;
}

// How `tokens` look in a normalised text.
std::vector<std::string> normalized_contents(const std::vector<AddedToken>& tokens,
                                             const Normalizer& normalizer) {
    std::vector<std::string> result;
    for (const AddedToken& token : tokens) {
        MappedText text = MappedText::slice(token.content, 0, token.content.size());
        normalizer.apply(text);
        if (text.text.empty()) {
            throw InputError({.what = fmt::format("the added token \"{}\" is empty when normalised",
                                                  token.content),
                              .where = "tokenizer.json, fields normalizer and added_tokens",
                              .remedy = "set \"normalized\": false for it"});
        }
        result.push_back(std::move(text.text));
    }
    return result;
}

}  // namespace

struct Tokenizer::Impl {
    explicit Impl(TokenizerFile read);
    void encode_text(std::string_view text, Encoding& out) const;
    void encode_section(const MappedText& normalized, const Section& section, Encoding& out) const;

    struct Added {
        std::string spelling;
        bool special;
    };

    TokenizerFile file;
    std::vector<AddedToken> raw, normalized;  // looked for before and after normalisation
    AddedTokenMatcher raw_matcher, normalized_matcher;
    std::unordered_map<std::int32_t, Added> added;
    std::int64_t vocab_size;
};

Tokenizer::Impl::Impl(TokenizerFile read)
    : file(std::move(read)),
      raw(with_normalized(file.added, false)),
      normalized(with_normalized(file.added, true)),
      raw_matcher(raw, contents(raw)),
      normalized_matcher(normalized, normalized_contents(normalized, file.normalizer)),
      vocab_size(static_cast<std::int64_t>(file.model.spellings().size())) {
    for (const AddedToken& token : raw) added[token.id] = {token.content, token.special};
    // A token that is looked for in normalised text is also spelled so; and if that is another
    // spelling, the library tokenizers shows it even where special tokens are left out.
    const std::vector<std::string> spelled = normalized_contents(normalized, file.normalizer);
    for (std::size_t i = 0; i < normalized.size(); ++i) {
        added[normalized[i].id] = {spelled[i],
                                   normalized[i].special && spelled[i] == normalized[i].content};
    }
    for (const AddedToken& token : file.added) {
        vocab_size = std::max(vocab_size, std::int64_t{token.id} + 1);
    }
}

void Tokenizer::Impl::encode_section(const MappedText& normalized_text, const Section& section,
                                     Encoding& out) const {
    std::vector<PlacedToken> tokens;
    if (!file.pre_tokenizer.changes_text()) {
        const std::string_view whole = normalized_text.text;
        file.model.encode(whole.substr(section.begin, section.end - section.begin), tokens);
        for (const PlacedToken& token : tokens) {
            out.ids.push_back(token.id);
            out.begins.push_back(normalized_text.origin[section.begin + token.begin]);
        }
        return;
    }
    MappedText part = normalized_text.part(section.begin, section.end);
    file.pre_tokenizer.apply(part);
    file.model.encode(part.text, tokens);
    for (const PlacedToken& token : tokens) {
        out.ids.push_back(token.id);
        out.begins.push_back(part.origin[token.begin]);
    }
}

// Added tokens are cut out of the text itself first, and then out of each normalised rest, so that
// every rest is normalised (and gets its prefix) on its own.
void Tokenizer::Impl::encode_text(std::string_view text, Encoding& out) const {
    for (const Section& outer : raw_matcher.split(text)) {
        if (outer.id != Section::plain) {
            out.ids.push_back(outer.id);
            out.begins.push_back(static_cast<std::uint32_t>(outer.begin));
            continue;
        }
        MappedText rest = MappedText::slice(text, outer.begin, outer.end);
        file.normalizer.apply(rest);
        for (const Section& section : normalized_matcher.split(rest.text)) {
            if (section.id == Section::plain) {
                encode_section(rest, section, out);
                continue;
            }
            out.ids.push_back(section.id);
            out.begins.push_back(rest.origin[section.begin]);
        }
    }
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
    return Tokenizer(std::make_unique<const Impl>(TokenizerFile::read(folder)));
}

Encoding Tokenizer::encode(std::string_view text, SpecialTokens special) const {
    if (text.size() > max_text) {
        throw InputError({.what = fmt::format("a text of {} bytes is too long", text.size()),
                          .where = "text to tokenise",
                          .remedy = fmt::format("at most {} bytes at once", max_text)});
    }
    const std::size_t invalid = first_invalid_utf8(text);
    if (invalid != text.size()) {
        throw InputError({.what = fmt::format("byte 0x{:02X} is not valid UTF-8",
                                              static_cast<unsigned char>(text[invalid])),
                          .where = fmt::format("text to tokenise, byte {}", invalid),
                          .remedy = "convert the text to UTF-8"});
    }
    const TokenTemplate none;
    const TokenTemplate& around = special == SpecialTokens::add ? impl_->file.single : none;
    Encoding out;
    out.ids = around.before;
    out.begins.assign(around.before.size(), 0);
    impl_->encode_text(text, out);
    out.ids.insert(out.ids.end(), around.behind.begin(), around.behind.end());
    out.begins.resize(out.ids.size(), static_cast<std::uint32_t>(text.size()));
    return out;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, SpecialText special) const {
    const std::vector<std::string>& spellings = impl_->file.model.spellings();
    std::vector<std::string> tokens;
    for (const std::int32_t id : ids) {
        const auto found = impl_->added.find(id);
        if (found != impl_->added.end()) {
            if (special == SpecialText::keep || !found->second.special) {
                tokens.push_back(found->second.spelling);
            }
        } else if (id >= 0 && static_cast<std::size_t>(id) < spellings.size()) {
            tokens.push_back(spellings[id]);
        }
    }
    return impl_->file.decoder.decode(std::move(tokens));
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
const std::string& Tokenizer::fingerprint() const {
    return impl_->file.fingerprint;
}

}  // namespace fedit
