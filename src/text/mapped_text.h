// text/mapped_text.h: a text that is rewritten and remembers where each of its bytes is from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// Bytes of a rewritten text at most: positions are 32 bits wide.
inline constexpr std::size_t max_mapped_text = std::size_t{3} << 29;

/// A rewritten text and, for each of its bytes, the byte of the user's text where the character
/// that it stands for begins.
struct MappedText {
    std::string text;
    std::vector<std::uint32_t> origin;

    /// text.substr(begin, end - begin) of the user's text, unchanged.
    static MappedText slice(std::string_view whole, std::size_t begin, std::size_t end);
    MappedText part(std::size_t begin, std::size_t end) const;

    /// Adds [begin, end) of `other`.
    void append(const MappedText& other, std::size_t begin, std::size_t end);
    /// Adds `content`, which stands for the character at `from` of the user's text.
    void append(std::string_view content, std::uint32_t from);
    void reserve(std::size_t bytes);

    /// Puts `prefix` in front; it stands for the first character. An empty text stays empty.
    void prepend(std::string_view prefix);
    /// Replaces every `pattern` from left to right; each stands for the pattern's last character.
    /// Throws InputError if the text becomes longer than max_mapped_text.
    void replace(std::string_view pattern, std::string_view content);
};

}  // namespace fedit
