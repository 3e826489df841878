// text/bpe.cpp: byte-pair encoding by rank of merges.
#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

#include "text/utf8.h"

namespace fedit {
namespace {

constexpr std::uint64_t empty_key = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t no_rank = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t few = 48;  // symbols of a word: a scan beats a queue

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
}

}  // namespace

std::optional<std::int32_t> BpeTables::find(std::string_view token) const {
    const auto found = ids.find(token);
    if (found == ids.end()) return std::nullopt;
    return found->second;
}

BpeModel::MergeTable::MergeTable(const std::vector<MergeRule>& rules)
    : entries_(std::bit_ceil(2 * rules.size() + 2), Entry{empty_key, {}}),
      shift_(64 - std::countr_zero(entries_.size())) {
    for (const MergeRule& rule : rules) {
        const std::uint64_t key = pair_key(rule.left, rule.right);
        entries_[slot(key)] = {key, {rule.rank, rule.merged}};
    }
}

std::size_t BpeModel::MergeTable::slot(std::uint64_t key) const {
    std::size_t at = (key * 0x9E3779B97F4A7C15U) >> shift_;  // Fibonacci hashing
    while (entries_[at].key != key && entries_[at].key != empty_key) {
        at = (at + 1) & (entries_.size() - 1);
    }
    return at;
}

auto BpeModel::MergeTable::find(std::int32_t left, std::int32_t right) const -> const Merge* {
    const Entry& entry = entries_[slot(pair_key(left, right))];
    return entry.key == empty_key ? nullptr : &entry.merge;
}

BpeModel::BpeModel(BpeTables tables) : tables_(std::move(tables)), merges_(tables_.merges) {
    tables_.merges = {};
    for (std::size_t id = 0; id < tables_.spellings.size(); ++id) {
        const std::string& token = tables_.spellings[id];
        if (token.empty() || utf8_length(token[0]) != token.size()) continue;
        const char32_t character = code_point_at(token, 0);
        if (characters_.size() <= character) characters_.resize(character + 1, -1);
        characters_[character] = static_cast<std::int32_t>(id);
    }
}

void BpeModel::Encoder::add(std::int32_t id, std::size_t begin) {
    const auto index = static_cast<std::int32_t>(symbols_.size());
    symbols_.push_back({id, index - 1, index + 1, static_cast<std::uint32_t>(begin)});
}

void BpeModel::Encoder::flush_unknown() {
    if (unknown_) add(*model_.tables_.unknown, *unknown_);
    unknown_.reset();
}

bool BpeModel::Encoder::add_bytes(std::string_view character, std::size_t begin) {
    const std::vector<std::int32_t>& bytes = model_.tables_.bytes;
    if (bytes.empty()) return false;
    const auto id = [&](char byte) { return bytes[static_cast<unsigned char>(byte)]; };
    if (std::any_of(character.begin(), character.end(), [&](char c) { return id(c) < 0; })) {
        return false;
    }
    for (const char byte : character) add(id(byte), begin);
    return true;
}

void BpeModel::Encoder::read_characters(std::string_view text) {
    symbols_.clear();
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t length = utf8_length(text[at]);
        const char32_t character = code_point_at(text, at);
        const std::int32_t id =
            character < model_.characters_.size() ? model_.characters_[character] : none;
        if (id >= 0) {
            flush_unknown();
            add(id, at);
        } else if (!add_bytes(text.substr(at, length), at)) {
            // Byte tokens do not end a run of unknowns: with only some of the 256 bytes in the
            // vocabulary they come before it. So does the library that defines this format.
            if (!model_.tables_.fuse_unknown) flush_unknown();
            if (!unknown_) unknown_ = at;
        }
        at += length;
    }
    flush_unknown();
    if (!symbols_.empty()) symbols_.back().next = none;
}

// Looks for the best pair again after each merge: quadratic, but without a queue. A pair's merge is
// kept beside its left symbol; symbols stay dense.
void BpeModel::Encoder::merge_few() {
    const auto pair_at = [&](std::size_t i) {
        const Merge* merge = i + 1 < symbols_.size()
                                 ? model_.merges_.find(symbols_[i].id, symbols_[i + 1].id)
                                 : nullptr;
        return merge != nullptr ? *merge : Merge{no_rank, none};
    };
    pairs_.clear();
    for (std::size_t i = 0; i < symbols_.size(); ++i) pairs_.push_back(pair_at(i));
    while (true) {
        const auto best =
            std::min_element(pairs_.begin(), pairs_.end(),
                             [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
        if (best == pairs_.end() || best->id == none) return;
        const auto left = static_cast<std::size_t>(best - pairs_.begin());
        symbols_[left].id = best->id;
        symbols_.erase(symbols_.begin() + left + 1);
        pairs_.erase(pairs_.begin() + left + 1);
        pairs_[left] = pair_at(left);
        if (left > 0) pairs_[left - 1] = pair_at(left - 1);
    }
}

auto BpeModel::Encoder::candidate(std::int32_t left) const -> std::optional<Candidate> {
    if (left == none) return std::nullopt;
    const Symbol& symbol = symbols_[left];
    if (symbol.next == none) return std::nullopt;
    const Merge* merge = model_.merges_.find(symbol.id, symbols_[symbol.next].id);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, left, merge->id};
}

// Symbols are a linked list, and possible merges wait in a queue.
void BpeModel::Encoder::merge_many() {
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
    std::erase_if(symbols_, [](const Symbol& symbol) { return symbol.id == none; });
}

void BpeModel::Encoder::encode(std::string_view piece, std::vector<PlacedToken>& out) {
    if (model_.tables_.ignore_merges) {
        if (const auto id = model_.find(piece)) {
            out.push_back({*id, 0});
            return;
        }
    }
    read_characters(piece);
    if (symbols_.size() <= few) {
        merge_few();
    } else {
        merge_many();
    }
    for (const Symbol& symbol : symbols_) out.push_back({symbol.id, symbol.begin});
}

}  // namespace fedit
