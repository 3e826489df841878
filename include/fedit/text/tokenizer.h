// text/tokenizer.h: text to token ids and back, from a Hugging Face tokenizer.json of the
// byte-fallback BPE kind (LLaMA-1/2, Mistral).
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

/// Whether the template of tokenizer.json (BOS before, perhaps EOS after) is applied.
enum class SpecialTokens { none, add };

/// Whether decoded text shows special tokens. Those that are looked for in normalised text and
/// spelled otherwise there are always shown, as by the library tokenizers.
enum class SpecialText { skip, keep };

/// Ids and, for each, the byte of the input where the token's own text begins (0 for tokens that
/// the template adds in front, the text's length for those it adds behind). A prefix that the
/// tokenizer puts before a text begins where the text does; all byte tokens of a character begin
/// with it.
struct Encoding {
    std::vector<std::int32_t> ids;
    std::vector<std::uint32_t> begins;
};

/// Immutable; safe to use from several threads.
class Tokenizer {
public:
    /// Reads tokenizer.json (and tokenizer_config.json, for BOS and EOS) of `folder`. Throws
    /// InputError naming file, field and value for anything the code does not honour.
    static Tokenizer load(const std::filesystem::path& folder);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    /// Throws InputError if `text` is not valid UTF-8.
    Encoding encode(std::string_view text, SpecialTokens special) const;
    /// Ids that no token has give no text. Byte tokens that are no UTF-8 give U+FFFD, one a byte.
    std::string decode(std::span<const std::int32_t> ids,
                       SpecialText special = SpecialText::skip) const;

    std::int64_t vocab_size() const;  ///< largest id + 1
    std::optional<std::int32_t> bos() const;
    std::optional<std::int32_t> eos() const;
    /// SHA-256 (hex) of the files it was read from: part of a run's identity.
    const std::string& fingerprint() const;

private:
    struct Impl;
    explicit Tokenizer(std::unique_ptr<const Impl> impl);
    std::unique_ptr<const Impl> impl_;
};

}  // namespace fedit
