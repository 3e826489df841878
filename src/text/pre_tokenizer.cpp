// text/pre_tokenizer.cpp: cuts a normalised text into the pieces that are encoded each on its own.
#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fedit/core/error.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace fedit {
namespace {

// The expression that ByteLevel itself splits by (GPT-2's, as published with the model).
constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A stretch of a piece, and whether it is what a Split looks for.
struct Stretch {
    Piece piece;
    bool is_match;
};

// The whole of [0, size) as matches and what lies between them.
std::vector<Stretch> stretches_of(const std::vector<Piece>& matches, std::size_t size,
                                  bool inverted) {
    std::vector<Stretch> stretches;
    std::size_t done = 0;
    for (const Piece& match : matches) {
        if (done != match.begin) stretches.push_back({{done, match.begin}, inverted});
        stretches.push_back({match, !inverted});
        done = match.end;
    }
    if (done != size) stretches.push_back({{done, size}, inverted});
    return stretches;
}

// Each match becomes a part of what stands before it, unless that is a match too.
void merge_with_previous(std::vector<Stretch>& stretches) {
    std::vector<Stretch> merged;
    bool previous_is_match = false;
    for (const Stretch& stretch : stretches) {
        if (stretch.is_match && !previous_is_match && !merged.empty()) {
            merged.back().piece.end = stretch.piece.end;
        } else {
            merged.push_back(stretch);
        }
        previous_is_match = stretch.is_match;
    }
    stretches = std::move(merged);
}

void merge_with_next(std::vector<Stretch>& stretches) {
    std::vector<Stretch> merged;  // from the last to the first
    bool next_is_match = false;
    for (std::size_t i = stretches.size(); i-- > 0;) {
        const Stretch& stretch = stretches[i];
        if (stretch.is_match && !next_is_match && !merged.empty()) {
            merged.back().piece.begin = stretch.piece.begin;
        } else {
            merged.push_back(stretch);
        }
        next_is_match = stretch.is_match;
    }
    std::reverse(merged.begin(), merged.end());
    stretches = std::move(merged);
}

void merge_alike(std::vector<Stretch>& stretches) {
    std::vector<Stretch> merged;
    for (const Stretch& stretch : stretches) {
        if (!merged.empty() && merged.back().is_match == stretch.is_match) {
            merged.back().piece.end = stretch.piece.end;
        } else {
            merged.push_back(stretch);
        }
    }
    stretches = std::move(merged);
}

void find_text(std::string_view whole, std::string_view text, std::vector<Piece>& matches) {
    for (std::size_t at = whole.find(text); at != std::string_view::npos;
         at = whole.find(text, at + text.size())) {
        matches.push_back({at, at + text.size()});
    }
}

// Rewrites every piece of `list` by `rewrite(piece's text)`; the rest of the text is dropped.
template <typename Rewrite>
void rewrite_pieces(PieceList& list, Rewrite&& rewrite) {
    PieceList result;
    result.text.reserve(list.text.text.size() * 5 / 4);
    for (const Piece& piece : list.pieces) {
        const std::size_t begin = result.text.text.size();
        rewrite(piece, result.text);
        result.pieces.push_back({begin, result.text.text.size()});
    }
    list = std::move(result);
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& json) {
    PreTokenizer result;
    StepBudget budget;
    if (!json.is_null()) result.add(json, budget);
    return result;
}

void PreTokenizer::add(const Json& json, StepBudget& budget) {
    const std::string& type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["pretokenizers"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i], budget);
        return;
    }
    budget.add(json);
    if (type == "Split") {
        steps_.emplace_back(read_split(json));
    } else if (type == "ByteLevel") {
        if (spells_bytes()) refuse(json, "supported: ByteLevel once");  // each doubles most bytes
        steps_.emplace_back(read_byte_level(json));
    } else if (type == "Digits") {
        steps_.emplace_back(read_digits(json));
    } else if (type == "Metaspace") {
        steps_.emplace_back(read_metaspace(json));
    } else {
        refuse(json["type"],
               "supported pre_tokenizers: null, Sequence, Split, ByteLevel, Digits, Metaspace");
    }
}

auto PreTokenizer::read_behavior(const Json& json) -> Behavior {
    constexpr std::array<std::pair<std::string_view, Behavior>, 5> names{
        {{"Isolated", Behavior::isolated},
         {"Removed", Behavior::removed},
         {"MergedWithPrevious", Behavior::merged_with_previous},
         {"MergedWithNext", Behavior::merged_with_next},
         {"Contiguous", Behavior::contiguous}}};
    const std::string& name = json.as_string();
    const auto found =
        std::ranges::find(names, name, [](const auto& entry) { return entry.first; });
    if (found == names.end()) {
        refuse(json,
               "supported: Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    }
    return found->second;
}

auto PreTokenizer::read_split(const Json& json) -> Split {
    const Json pattern = json["pattern"];
    Split split{.text = {},
                .regex = {},
                .behavior = read_behavior(json["behavior"]),
                .inverted = json.bool_or("invert", false)};
    if (pattern.has("Regex")) {
        split.regex = std::make_shared<const Regex>(pattern["Regex"]);
    } else {
        split.text = replace_pattern(json);
    }
    return split;
}

auto PreTokenizer::built_in(const Json& json, std::string_view expression, Behavior behavior)
    -> Split {
    JsonWriter words;
    words.set("Regex", expression);
    const Json pattern = Json::parse(words.text(), json.where() + ", built-in expression");
    return {.text = {},
            .regex = std::make_shared<const Regex>(pattern["Regex"]),
            .behavior = behavior,
            .inverted = false};
}

auto PreTokenizer::read_digits(const Json& json) -> Split {
    return built_in(
        json, R"(\p{N})",
        json.bool_or("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
}

auto PreTokenizer::read_byte_level(const Json& json) -> ByteLevel {
    ByteLevel result{.add_prefix_space = json["add_prefix_space"].as_bool(), .words = {}};
    if (json.bool_or("use_regex", true)) {
        result.words = built_in(json, gpt2_words, Behavior::isolated);
    }
    return result;
}

auto PreTokenizer::read_metaspace(const Json& json) -> Metaspace {
    using Prepend = Metaspace::Prepend;
    Metaspace result{.replacement = json["replacement"].as_string(),
                     .prepend = Prepend::always,
                     .split = json.bool_or("split", true)};
    if (result.replacement.empty() ||
        utf8_length(result.replacement[0]) != result.replacement.size()) {
        refuse(json["replacement"], "supported: one character");
    }
    const std::string& scheme = json["prepend_scheme"].as_string();
    if (scheme == "first") {
        result.prepend = Prepend::first;
    } else if (scheme == "never") {
        result.prepend = Prepend::never;
    } else if (scheme != "always") {
        refuse(json["prepend_scheme"], "supported: always, first, never");
    }
    return result;
}

bool PreTokenizer::spells_bytes() const {
    return std::ranges::any_of(
        steps_, [](const Step& step) { return std::holds_alternative<ByteLevel>(step); });
}

PieceList PreTokenizer::apply(MappedText text) const {
    PieceList list{.text = std::move(text), .pieces = {}};
    if (!list.text.text.empty()) list.pieces.push_back({0, list.text.text.size()});
    for (const Step& step : steps_) {
        std::visit([&](const auto& kind) { kind.apply(list); }, step);
    }
    return list;
}

void PreTokenizer::Metaspace::apply(PieceList& list) const {
    rewrite_pieces(list, [&](const Piece& piece, MappedText& out) {
        MappedText part = list.text.part(piece.begin, piece.end);
        part.replace(" ", replacement);
        const bool wanted =
            prepend == Prepend::always || (prepend == Prepend::first && part.origin.front() == 0);
        if (wanted && !part.text.starts_with(replacement)) part.prepend(replacement);
        out.append(part, 0, part.text.size());
    });
    if (!split) return;
    const Split words{.text = replacement,
                      .regex = {},
                      .behavior = Behavior::merged_with_next,
                      .inverted = false};
    words.apply(list);
}

void PreTokenizer::Split::apply(PieceList& list) const {
    std::optional<Regex::Search> search;
    if (regex) search.emplace(*regex);
    std::vector<Piece> matches, result;
    for (const Piece& whole : list.pieces) {
        const auto inside =
            std::string_view(list.text.text).substr(whole.begin, whole.end - whole.begin);
        matches.clear();
        if (search) {
            search->find_all(inside, matches);
        } else {
            find_text(inside, text, matches);
        }
        std::vector<Stretch> stretches = stretches_of(matches, inside.size(), inverted);
        if (behavior == Behavior::merged_with_previous) merge_with_previous(stretches);
        if (behavior == Behavior::merged_with_next) merge_with_next(stretches);
        if (behavior == Behavior::contiguous) merge_alike(stretches);
        for (const Stretch& stretch : stretches) {
            if (behavior == Behavior::removed && stretch.is_match) continue;
            if (stretch.piece.begin == stretch.piece.end) continue;
            result.push_back({whole.begin + stretch.piece.begin, whole.begin + stretch.piece.end});
        }
    }
    list.pieces = std::move(result);
}

void PreTokenizer::ByteLevel::apply(PieceList& list) const {
    const auto text_of = [&](const Piece& piece) {
        return std::string_view(list.text.text).substr(piece.begin, piece.end - piece.begin);
    };
    if (add_prefix_space) {
        rewrite_pieces(list, [&](const Piece& piece, MappedText& out) {
            if (!text_of(piece).starts_with(' ')) out.append(" ", list.text.origin[piece.begin]);
            out.append(list.text, piece.begin, piece.end);
        });
    }
    if (words) words->apply(list);
    rewrite_pieces(list, [&](const Piece& piece, MappedText& out) {
        for (std::size_t i = piece.begin; i < piece.end; ++i) {
            out.append(spell_byte(static_cast<unsigned char>(list.text.text[i])),
                       list.text.origin[i]);
        }
    });
}

}  // namespace fedit
