// text/normalizer.h: rewrites a text before the model sees it, remembering where each byte is from.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// A rewritten text and, for each of its bytes, the byte of the user's text where the character
/// that it stands for begins.
struct MappedText {
    std::string text;
    std::vector<std::uint32_t> origin;

    /// text.substr(begin, end - begin) of the user's text, unchanged.
    static MappedText slice(std::string_view whole, std::size_t begin, std::size_t end);
    MappedText part(std::size_t begin, std::size_t end) const;

    /// Puts `prefix` in front; it stands for the first character. An empty text stays empty.
    void prepend(std::string_view prefix);
    /// Replaces every `pattern` from left to right; each stands for the pattern's last character.
    void replace(std::string_view pattern, std::string_view content);
};

/// tokenizer.json's "normalizer": Prepend and Replace in sequence.
class Normalizer {
public:
    /// `json` may be null. Throws InputError for any other type.
    static Normalizer from_json(const Json& json);
    void apply(MappedText& text) const;

private:
    struct Step {
        std::string pattern;  // empty: prepend `content`
        std::string content;
    };
    void add(const Json& json);

    std::vector<Step> steps_;
};

/// tokenizer.json's "pre_tokenizer": none, or Metaspace that does not split.
class PreTokenizer {
public:
    /// `json` may be null. Throws InputError for any other type or setting.
    static PreTokenizer from_json(const Json& json);
    bool changes_text() const { return scheme_ != Scheme::off; }
    void apply(MappedText& text) const;

private:
    enum class Scheme { off, never, first, always };
    Scheme scheme_ = Scheme::off;
    std::string replacement_;
};

}  // namespace fedit
