// text/utf8.h: strict UTF-8, one character at a time.
#pragma once

#include <cstddef>
#include <string_view>

namespace fedit {

/// Where the first ill-formed sequence begins (overlong forms, surrogates and values above U+10FFFF
/// are ill-formed: Unicode 15, table 3-7), or text.size() if there is none.
std::size_t first_invalid_utf8(std::string_view text);

/// How many bytes of ill-formed `text`, from its first on, one U+FFFD stands for: a begun character
/// that is not ended (Unicode 15, chapter 3.9: maximal subparts), or one byte. `text` is not empty
/// and begins with an ill-formed sequence.
std::size_t maximal_subpart(std::string_view text);

/// Whether `text`, not empty, is the begin of a character whose end is missing.
bool is_begun_character(std::string_view text);

/// Bytes of the well-formed character that starts with `lead`.
constexpr std::size_t utf8_length(char lead) {
    const auto byte = static_cast<unsigned char>(lead);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The character that begins at `begin` of well-formed `text`.
char32_t code_point_at(std::string_view text, std::size_t begin);

/// Where the last character of well-formed, non-empty `text` begins.
std::size_t last_character(std::string_view text);

/// White_Space of the Unicode character database: what \s means in tokenizer.json.
bool is_unicode_space(char32_t character);

}  // namespace fedit
