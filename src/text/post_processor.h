// text/post_processor.h: what a tokenizer adds around a text, and which bytes it counts to a token.
#pragma once

#include <cstdint>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// tokenizer.json's "post_processor": TemplateProcessing and ByteLevel in sequence.
struct PostProcessor {
    /// Whether a token begins with its leading white space or behind it; the space of the text's
    /// first token may be the tokenizer's own, which stands for no byte of the text.
    enum class Begins { with_space, behind_space, behind_space_but_first };

    std::vector<std::int32_t> before, behind;  ///< ids around one text
    Begins begins = Begins::with_space;

    /// `json` may be null. Throws InputError for any other type or template.
    static PostProcessor from_json(const Json& json);

private:
    void add(const Json& json);
    void add_template(const Json& json);
};

}  // namespace fedit
