// text/pre_tokenizer.h: cuts a normalised text into the pieces that are encoded each on its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fedit/io/json.h"
#include "text/json_checks.h"
#include "text/mapped_text.h"
#include "text/regex.h"

namespace fedit {

/// A text and the pieces of it that are left, in order; none of them is empty.
struct PieceList {
    MappedText text;
    std::vector<Piece> pieces;
};

/// tokenizer.json's "pre_tokenizer": Split, Digits, ByteLevel and Metaspace in sequence.
class PreTokenizer {
public:
    /// `json` may be null. Throws InputError for any other type or setting.
    static PreTokenizer from_json(const Json& json);

    /// Whether pieces are spelled in the byte alphabet.
    bool spells_bytes() const;
    PieceList apply(MappedText text) const;

private:
    /// What becomes of a match of a Split: a piece of its own, nothing, or a part of a neighbour.
    enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
    struct Metaspace {
        enum class Prepend { never, first, always };
        std::string replacement;
        Prepend prepend;
        bool split;
        void apply(PieceList& list) const;
    };
    struct Split {
        std::string text;  // looked for where there is no expression
        std::shared_ptr<const Regex> regex;
        Behavior behavior;
        bool inverted;
        void apply(PieceList& list) const;
    };
    struct ByteLevel {
        bool add_prefix_space;
        std::optional<Split> words;  // GPT-2's own expression, if use_regex
        void apply(PieceList& list) const;
    };
    using Step = std::variant<Metaspace, Split, ByteLevel>;

    static Metaspace read_metaspace(const Json& json);
    static Split read_split(const Json& json);
    static Split read_digits(const Json& json);
    static Split built_in(const Json& json, std::string_view expression, Behavior behavior);
    static ByteLevel read_byte_level(const Json& json);
    static Behavior read_behavior(const Json& json);
    void add(const Json& json, StepBudget& budget);

    std::vector<Step> steps_;
};

}  // namespace fedit
