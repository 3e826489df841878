// text/normalizer.h: rewrites a text before it is cut and encoded.
#pragma once

#include <string>
#include <vector>

#include "fedit/io/json.h"
#include "text/json_checks.h"
#include "text/mapped_text.h"

namespace fedit {

/// What may stand before a text in SentencePiece: nothing, or the space of a word, before the
/// user's text alone or before every stretch between special tokens.
enum class DummyPrefix { none, at_start, everywhere };

/// tokenizer.json's "normalizer": NFC, Prepend and Replace in sequence.
class Normalizer {
public:
    /// `json` may be null. Throws InputError for any other type.
    static Normalizer from_json(const Json& json);
    /// The identity rules of SentencePiece: spaces become U+2581.
    static Normalizer of_sentencepiece(DummyPrefix prefix);
    void apply(MappedText& text) const;

private:
    enum class Kind { compose, prepend, prepend_at_start, replace };
    struct Step {
        Kind kind;
        std::string pattern{}, content{};
    };
    void add(const Json& json, StepBudget& budget);

    std::vector<Step> steps_;
};

}  // namespace fedit
