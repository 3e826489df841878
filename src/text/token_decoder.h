// text/token_decoder.h: tokens' spellings back to text.
#pragma once

#include <string>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// tokenizer.json's "decoder": Replace, ByteFallback, Fuse and Strip in sequence.
class TokenDecoder {
public:
    /// `json` may be null: then tokens are joined by spaces. Throws InputError for other types.
    static TokenDecoder from_json(const Json& json);

    /// Byte tokens that together are no UTF-8 become U+FFFD, one a byte.
    std::string decode(std::vector<std::string> tokens) const;

private:
    enum class Kind { replace, byte_fallback, fuse, strip };
    struct Step {
        Kind kind;
        std::string pattern{}, content{};      // replace; strip: `content` is one character
        std::size_t at_start = 0, at_end = 0;  // strip: at most so many
    };
    void add(const Json& json);

    bool join_with_spaces_ = false;
    std::vector<Step> steps_;
};

}  // namespace fedit
