// tests/fuzz/use_tokenizer.h: what any tokenizer that was accepted must be able to do.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "fedit/text/tokenizer.h"
#include "tests/fuzz/input_file.h"

namespace fedit::fuzz {

/// Spaces of several kinds, marks to compose, bytes above 7F, special tokens, a long word.
inline constexpr std::string_view sample =
    "Hello, world's  12345 <s>é</s>\n\t e\u0301\u0323 \u2581ab<x>y \u65e5\u672c\u8a9e "
    "\U0001F642\u00a0"
    "abababababababababababababababababababababababababababababababababababababababab";

inline void encode_and_decode(const Tokenizer& tokenizer, std::string_view text) {
    const Encoding encoding = tokenizer.encode(text, SpecialTokens::add);
    require(encoding.ids.size() == encoding.begins.size(), "every id has a begin");
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
        require(encoding.begins[i] <= text.size(), "a token begins inside the text");
        require(encoding.ids[i] >= 0 && encoding.ids[i] < tokenizer.vocab_size(),
                "ids are those of the vocabulary");
    }
    require(is_utf8(tokenizer.decode(encoding.ids, SpecialText::keep)), "decoded text is UTF-8");
}

inline void use(const Tokenizer& tokenizer) {
    encode_and_decode(tokenizer, "");
    encode_and_decode(tokenizer, sample);
    constexpr std::int64_t some = 300;
    std::vector<std::int32_t> ids(
        static_cast<std::size_t>(std::min(some, tokenizer.vocab_size()) + 2));
    std::iota(ids.begin(), ids.end(), -1);  // also ids that no token has
    require(is_utf8(tokenizer.decode(ids)), "decoded text is UTF-8");
}

}  // namespace fedit::fuzz
