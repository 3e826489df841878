// text/bpe.cpp: reads a BPE model and encodes text with it.
#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

#include "fedit/core/error.h"
#include "text/json_checks.h"
#include "text/utf8.h"

namespace fedit {
namespace {

constexpr std::uint64_t empty_key = std::numeric_limits<std::uint64_t>::max();
constexpr std::int64_t max_id = 1 << 24;  // 16 million tokens: far above any vocabulary

// Fields that change the result and are not honoured; they may be absent, null, false or empty.
void refuse_unsupported(const Json& model) {
    if (model.has("type") && model["type"].as_string() != "BPE") {
        refuse(model["type"], "supported models: BPE with byte_fallback");
    }
    for (const char* field : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!model.has(field)) continue;
        const Json value = model[field];
        if (value.is_string() && value.as_string().empty()) continue;
        refuse(value, "supported: null");
    }
    if (model.bool_or("ignore_merges", false)) refuse(model["ignore_merges"], "supported: false");
}

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
}

}  // namespace

BpeModel::MergeTable::MergeTable(std::size_t entries)
    : keys_(std::bit_ceil(2 * entries + 2), empty_key),
      merges_(keys_.size()),
      shift_(64 - std::countr_zero(keys_.size())) {}

std::size_t BpeModel::MergeTable::slot(std::uint64_t key) const {
    std::size_t at = (key * 0x9E3779B97F4A7C15U) >> shift_;  // Fibonacci hashing
    while (keys_[at] != key && keys_[at] != empty_key) at = (at + 1) & (keys_.size() - 1);
    return at;
}

void BpeModel::MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
    const std::size_t at = slot(pair_key(left, right));
    keys_[at] = pair_key(left, right);
    merges_[at] = merge;
}

const BpeModel::Merge* BpeModel::MergeTable::find(std::int32_t left, std::int32_t right) const {
    const std::size_t at = slot(pair_key(left, right));
    return keys_[at] == empty_key ? nullptr : &merges_[at];
}

BpeModel BpeModel::from_json(const Json& json) {
    refuse_unsupported(json);
    BpeModel model;
    model.read_vocabulary(json);
    model.read_merges(json["merges"]);
    model.read_unknown(json);
    model.fuse_unknown_ = json.bool_or("fuse_unk", false);
    return model;
}

void BpeModel::read_unknown(const Json& json) {
    if (json.has("unk_token")) {
        const Json token = json["unk_token"];
        unknown_ = find(token.as_string());
        if (unknown_) return;
        throw InputError(
            {.what = "the unknown token " + token.excerpt() + " is not in the vocabulary",
             .where = token.where(),
             .remedy = "give a token of model.vocab, or null where byte_fallback spells all"});
    }
    const bool spells_all =
        !byte_ids_.empty() && std::ranges::find(byte_ids_, -1) == byte_ids_.end();
    if (spells_all) return;
    throw InputError({.what = "characters outside the vocabulary would vanish: there is no unknown "
                              "token, and not a token for each byte",
                      .where = json.where() + ".unk_token",
                      .remedy = "give unk_token, or byte_fallback with <0x00> to <0xFF>"});
}

void BpeModel::read_vocabulary(const Json& json) {
    const Json vocab = json["vocab"];
    for (const std::string& token : vocab.keys()) {
        const auto id = static_cast<std::int32_t>(vocab[token].as_int(0, max_id));
        if (spellings_.size() <= static_cast<std::size_t>(id)) spellings_.resize(id + 1);
        if (!spellings_[id].empty()) {
            throw InputError({.what = fmt::format("tokens \"{}\" and \"{}\" share the id {}",
                                                  spellings_[id], token, id),
                              .where = vocab.where(),
                              .remedy = "give each token an id of its own"});
        }
        spellings_[id] = token;
        ids_.emplace(token, id);
        if (token.empty() || utf8_length(token[0]) != token.size()) continue;
        const char32_t character = code_point_at(token, 0);
        if (character_ids_.size() <= character) character_ids_.resize(character + 1, -1);
        character_ids_[character] = id;
    }
    if (!json.bool_or("byte_fallback", false)) return;
    byte_ids_.resize(256);
    for (int byte = 0; byte < 256; ++byte) {
        byte_ids_[byte] = find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
    }
}

void BpeModel::read_merges(const Json& merges) {
    merges_ = MergeTable(merges.size());
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        const Json merge = merges[rank];
        std::string left, right;
        if (merge.is_string()) {
            const std::string& both = merge.as_string();
            const std::size_t space = both.find(' ');
            if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
                refuse(merge, "supported: two pieces with one space between, or a pair of strings");
            }
            left = both.substr(0, space);
            right = both.substr(space + 1);
        } else {
            if (!merge.is_array() || merge.size() != 2) {
                refuse(merge, "supported: two pieces with one space between, or a pair of strings");
            }
            left = merge[0].as_string();
            right = merge[1].as_string();
        }
        const std::int32_t left_id = require(left, merge), right_id = require(right, merge);
        const std::int32_t merged_id = require(left + right, merge);
        merges_.set(left_id, right_id, {static_cast<std::uint32_t>(rank), merged_id});
    }
}

std::int32_t BpeModel::require(std::string_view token, const Json& merge) const {
    if (const auto id = find(token)) return *id;
    throw InputError({.what = fmt::format("merge {} needs the token \"{}\", which the vocabulary "
                                          "lacks",
                                          merge.excerpt(), token),
                      .where = merge.where(),
                      .remedy = "take vocab and merges from the same tokenizer"});
}

std::optional<std::int32_t> BpeModel::find(std::string_view token) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) return std::nullopt;
    return found->second;
}

// One text on its way through the merges: a linked list of symbols and a queue of possible merges.
class BpeModel::Encoder {
public:
    explicit Encoder(const BpeModel& model) : model_(model) {}

    void read_characters(std::string_view text);
    void merge_all();
    void append_to(std::vector<PlacedToken>& out) const;

private:
    static constexpr std::int32_t none = -1;
    struct Symbol {
        std::int32_t id;  // none: merged into the symbol before it
        std::int32_t previous, next;
        std::uint32_t begin;
    };
    struct Candidate {
        std::uint32_t rank;
        std::int32_t left;                              // index of the left symbol
        std::int32_t id;                                // of the merged token
        bool operator<(const Candidate& other) const {  // the top is the lowest rank, leftmost
            return rank != other.rank ? rank > other.rank : left > other.left;
        }
    };
    void add(std::int32_t id, std::size_t begin);
    void flush_unknown();
    bool add_bytes(std::string_view character, std::size_t begin);
    std::optional<Candidate> candidate(std::int32_t left) const;

    const BpeModel& model_;
    std::vector<Symbol> symbols_;
    std::optional<std::size_t> unknown_;  // where a run of unknown characters begins
};

void BpeModel::Encoder::add(std::int32_t id, std::size_t begin) {
    const auto index = static_cast<std::int32_t>(symbols_.size());
    symbols_.push_back({id, index - 1, index + 1, static_cast<std::uint32_t>(begin)});
}

void BpeModel::Encoder::flush_unknown() {
    if (unknown_) add(*model_.unknown_, *unknown_);
    unknown_.reset();
}

bool BpeModel::Encoder::add_bytes(std::string_view character, std::size_t begin) {
    if (model_.byte_ids_.empty()) return false;
    const auto id = [&](char byte) { return model_.byte_ids_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(character.begin(), character.end(), [&](char c) { return id(c) < 0; })) {
        return false;
    }
    for (const char byte : character) add(id(byte), begin);
    return true;
}

void BpeModel::Encoder::read_characters(std::string_view text) {
    symbols_.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t length = utf8_length(text[at]);
        const char32_t character = code_point_at(text, at);
        const std::int32_t id =
            character < model_.character_ids_.size() ? model_.character_ids_[character] : none;
        if (id >= 0) {
            flush_unknown();
            add(id, at);
        } else if (!add_bytes(text.substr(at, length), at)) {
            // Byte tokens do not end a run of unknowns: with only some of the 256 bytes in the
            // vocabulary they come before it. So does the library that defines this format.
            if (!model_.fuse_unknown_) flush_unknown();
            if (!unknown_) unknown_ = at;
        }
        at += length;
    }
    flush_unknown();
    if (!symbols_.empty()) symbols_.back().next = none;
}

auto BpeModel::Encoder::candidate(std::int32_t left) const -> std::optional<Candidate> {
    if (left == none) return std::nullopt;
    const Symbol& symbol = symbols_[left];
    if (symbol.next == none) return std::nullopt;
    const Merge* merge = model_.merges_.find(symbol.id, symbols_[symbol.next].id);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, left, merge->id};
}

void BpeModel::Encoder::merge_all() {
    std::vector<Candidate> first;
    first.reserve(symbols_.size());
    for (std::size_t i = 0; i + 1 < symbols_.size(); ++i) {
        if (const auto found = candidate(static_cast<std::int32_t>(i))) first.push_back(*found);
    }
    std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(first));
    while (!queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        Symbol& left = symbols_[top.left];
        if (left.id == none) continue;
        // An entry is stale when its pair is gone; two pairs that give the same token are one.
        const auto now = candidate(top.left);
        if (!now || now->id != top.id) continue;
        Symbol& right = symbols_[left.next];
        left.id = top.id;
        left.next = right.next;
        right.id = none;
        if (left.next != none) symbols_[left.next].previous = top.left;
        if (const auto found = candidate(left.previous)) queue.push(*found);
        if (const auto found = candidate(top.left)) queue.push(*found);
    }
}

void BpeModel::Encoder::append_to(std::vector<PlacedToken>& out) const {
    if (symbols_.empty()) return;
    for (std::int32_t i = 0; i != none; i = symbols_[i].next) {
        out.push_back({symbols_[i].id, symbols_[i].begin});
    }
}

void BpeModel::encode(std::string_view text, std::vector<PlacedToken>& out) const {
    Encoder encoder(*this);
    encoder.read_characters(text);
    encoder.merge_all();
    encoder.append_to(out);
}

}  // namespace fedit
