// text/json_checks.h: checks of tokenizer.json fields that several of its parts share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fedit/core/error.h"
#include "fedit/io/json.h"

namespace fedit {

/// 4 million tokens: far above any vocabulary.
inline constexpr std::int64_t max_token_id = 1 << 22;

/// A tokenizer's pipelines have a handful of steps; a chain of thousands would exhaust stack or
/// time.
inline constexpr std::size_t max_steps = 256;

/// By how much a chain of replacements may stretch a text at most. Each step multiplies what the
/// one before it made, so that a few short lines could ask for more memory than there is.
inline constexpr std::size_t max_stretch = 4096;

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

/// The steps that a text passes on its way through a normalizer or decoder, as far as they are
/// read: how many, and by how much they may stretch it.
class StepBudget {
public:
    /// Throws InputError naming `step` where it is one too many.
    void add(const Json& step) {
        if (++steps_ > max_steps) {
            refuse(step, "supported: at most " + std::to_string(max_steps) + " steps");
        }
    }
    /// The same for one that puts `content` bytes for `pattern` bytes.
    void add_replacement(const Json& step, std::size_t pattern, std::size_t content) {
        add(step);
        if (content <= pattern) return;
        const std::size_t factor = (content + pattern - 1) / pattern;
        if (factor > max_stretch / stretch_) {
            refuse(step, "supported: replacements that together stretch a text at most " +
                             std::to_string(max_stretch) + " times");
        }
        stretch_ *= factor;
    }

private:
    std::size_t steps_ = 0, stretch_ = 1;
};

}  // namespace fedit
