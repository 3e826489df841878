// text/json_checks.h: checks of tokenizer.json fields that several of its parts share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fedit/core/error.h"
#include "fedit/io/json.h"

namespace fedit {

/// 4 million tokens: far above any vocabulary.
inline constexpr std::int64_t max_token_id = 1 << 22;

/// Throws InputError: the value of `json` is not supported; `supported` says what is.
[[noreturn]] inline void refuse(const Json& json, std::string_view supported) {
    throw InputError({.what = json.excerpt() + " is not supported",
                      .where = json.where(),
                      .remedy = std::string(supported)});
}

/// The non-empty text that a Replace of a normalizer or decoder looks for. Throws InputError for a
/// regular expression.
inline std::string replace_pattern(const Json& replace) {
    const Json pattern = replace["pattern"];
    if (!pattern.is_object() || !pattern.has("String")) {
        refuse(pattern, "supported: {\"String\": \"...\"}");
    }
    const std::string text = pattern["String"].as_string();
    if (text.empty()) refuse(pattern, "supported: a pattern that is not empty");
    return text;
}

}  // namespace fedit
