// text/added_tokens.h: finds added and special tokens in a text before anything else sees it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// A token that is looked for in the text itself.
struct AddedToken {
    std::int32_t id = 0;
    std::string content;
    bool special = false;      ///< left out of decoded text
    bool normalized = false;   ///< looked for in the normalised text, else in the user's own
    bool lstrip = false;       ///< takes the white space before it too
    bool rstrip = false;       ///< takes the white space behind it too
    bool single_word = false;  ///< no letter, mark, digit or connector may touch it
    std::string pattern{};     ///< what is looked for: `content`, normalised if need be; not empty
};

/// A stretch [begin, end) of a text: an added token, or plain text.
struct Section {
    static constexpr std::int32_t plain = -1;
    std::size_t begin, end;
    std::int32_t id;  ///< `plain` or the added token's id
};

/// Finds the leftmost, and there the longest, of a set of tokens, again and again.
class AddedTokenMatcher {
public:
    explicit AddedTokenMatcher(const std::vector<AddedToken>& tokens);

    /// Sections of `text` from its begin to its end; none of them is empty.
    std::vector<Section> split(std::string_view text) const;

private:
    const AddedToken* longest_at(std::string_view text, std::size_t begin) const;

    std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longest first
};

}  // namespace fedit
