// text/tokenizer.h: text to token ids and back, from a Hugging Face tokenizer.json (BPE over bytes
// or over characters with byte fallback: GPT-2, LLaMA-1/2/3, Mistral, Qwen2, Qwen3) or a
// SentencePiece tokenizer.model (BPE).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// What the template of the tokenizer adds: BOS before, perhaps EOS after; or only what goes
/// before, for a text that goes on.
enum class SpecialTokens { none, add, before };

/// Whether decoded text shows special tokens. Those that are looked for in normalised text and
/// spelled otherwise there are always shown, as by the library tokenizers.
enum class SpecialText { skip, keep };

/// Ids and, for each, the byte of the input where the token's own text begins (0 for tokens that
/// the template adds in front, the text's length for those it adds behind). A prefix that the
/// tokenizer puts before a text begins where the text does; all tokens of a character's bytes begin
/// with it, and a composed character begins with the first it was made of. Where the tokenizer says
/// "trim_offsets", a token begins behind its leading spaces.
struct Encoding {
    std::vector<std::int32_t> ids;
    std::vector<std::uint32_t> begins;
};

/// Immutable; safe to use from several threads.
class Tokenizer {
public:
    /// Reads tokenizer.json, else tokenizer.model (and tokenizer_config.json, for BOS, EOS and
    /// added tokens) of `folder`. Throws InputError naming file, field and value for anything the
    /// code does not honour.
    static Tokenizer load(const std::filesystem::path& folder);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    /// Throws InputError if `text` is not valid UTF-8, or above 512 MiB.
    Encoding encode(std::string_view text, SpecialTokens special) const;
    /// Ids that no token has give no text. Bytes that are no UTF-8 give U+FFFD.
    std::string decode(std::span<const std::int32_t> ids,
                       SpecialText special = SpecialText::skip) const;

    std::int64_t vocab_size() const;  ///< largest id + 1
    std::optional<std::int32_t> bos() const;
    std::optional<std::int32_t> eos() const;
    /// The id of a token, by its spelling in the vocabulary (a space is U+0120 or U+2581 there).
    std::optional<std::int32_t> find(const std::string& token) const;
    /// A token's spelling in the vocabulary; empty for an id that no token has.
    std::string_view token(std::int32_t id) const;
    /// Whether decoded text leaves the token out.
    bool is_special(std::int32_t id) const;
    /// SHA-256 (hex) of the files it was read from: part of a run's identity.
    const std::string& fingerprint() const;

private:
    friend class TokenStream;
    struct Impl;
    explicit Tokenizer(std::unique_ptr<const Impl> impl);
    std::unique_ptr<const Impl> impl_;
};

/// The text of tokens that come one at a time. What it returns are whole UTF-8 characters, and all
/// of it together is what Tokenizer::decode makes of all ids. A text that may yet change (half a
/// character; a run of byte tokens, which is text only if all of it is) waits for the next token.
class TokenStream {
public:
    /// The tokenizer must outlive the stream.
    explicit TokenStream(const Tokenizer& tokenizer, SpecialText special = SpecialText::skip);
    ~TokenStream();
    TokenStream(TokenStream&&) noexcept;
    TokenStream& operator=(TokenStream&&) noexcept;

    /// The text that is certain once `id` has come; often none.
    std::string push(std::int32_t id);
    /// What still waits. The stream begins a new text after it.
    std::string finish();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
