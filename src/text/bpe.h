// text/bpe.h: byte-pair encoding by rank of merges, over a vocabulary of whole characters with byte
// fallback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// A token of a text and the byte where it begins.
struct PlacedToken {
    std::int32_t id;
    std::uint32_t begin;
};

/// tokenizer.json's "model" of type BPE (Sennrich et al., arXiv 1508.07909; byte fallback and fused
/// unknowns as in SentencePiece).
class BpeModel {
public:
    /// Throws InputError for any other model, for a setting that is not honoured, and for a merge
    /// of pieces that the vocabulary lacks.
    static BpeModel from_json(const Json& json);

    /// Appends the tokens of well-formed `text`. O(n log n) for n characters.
    void encode(std::string_view text, std::vector<PlacedToken>& out) const;

    std::optional<std::int32_t> find(std::string_view token) const;
    /// Spelling of each id, in the vocabulary's own form; ids without a token are empty.
    const std::vector<std::string>& spellings() const { return spellings_; }

private:
    struct Merge {
        std::uint32_t rank;
        std::int32_t id;  // of the merged token
    };
    struct TransparentHash : std::hash<std::string_view> {
        using is_transparent = void;
    };
    /// Pairs of ids to merges: open addressing, at most half full.
    class MergeTable {
    public:
        explicit MergeTable(std::size_t entries);
        void set(std::int32_t left, std::int32_t right, Merge merge);
        const Merge* find(std::int32_t left, std::int32_t right) const;

    private:
        std::size_t slot(std::uint64_t key) const;
        std::vector<std::uint64_t> keys_;
        std::vector<Merge> merges_;
        int shift_;
    };
    class Encoder;

    BpeModel() : merges_(0) {}
    void read_vocabulary(const Json& json);
    void read_unknown(const Json& json);
    void read_merges(const Json& json);
    std::int32_t require(std::string_view token, const Json& merge) const;

    std::unordered_map<std::string, std::int32_t, TransparentHash, std::equal_to<>> ids_;
    std::vector<std::string> spellings_;
    std::vector<std::int32_t> character_ids_;  // by code point; -1: not in the vocabulary
    std::vector<std::int32_t> byte_ids_;  // 256 entries (-1: absent), or empty: no byte fallback
    MergeTable merges_;
    std::optional<std::int32_t> unknown_;  // nothing only if every byte has a token
    bool fuse_unknown_ = false;
};

}  // namespace fedit
