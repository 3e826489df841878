// text/bpe.h: byte-pair encoding by rank of merges, over a vocabulary of characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace fedit {

/// A token of a text and the byte where it begins.
struct PlacedToken {
    std::int32_t id;
    std::uint32_t begin;
};

/// Two neighbouring tokens that become one; of all that apply, the lowest rank goes first, and of
/// equal ranks the leftmost.
struct MergeRule {
    std::int32_t left, right, merged;
    std::uint32_t rank;
};

struct TransparentHash : std::hash<std::string_view> {
    using is_transparent = void;
};
using TokenIndex = std::unordered_map<std::string, std::int32_t, TransparentHash, std::equal_to<>>;

/// What a tokenizer file says of its BPE model.
struct BpeTables {
    TokenIndex ids;
    std::vector<std::string> spellings;  ///< of each id; ids without a token are empty
    std::vector<MergeRule> merges;
    std::vector<std::int32_t> bytes;      ///< 256 entries (-1: absent), or empty: no byte fallback
    std::optional<std::int32_t> unknown;  ///< nothing only where every character has tokens
    bool fuse_unknown = false;            ///< neighbouring unknown characters are one token
    bool ignore_merges = false;           ///< a whole piece in the vocabulary needs no merges

    std::optional<std::int32_t> find(std::string_view token) const;
};

/// BPE (Sennrich et al., arXiv 1508.07909; byte fallback and fused unknowns as in SentencePiece).
class BpeModel {
public:
    explicit BpeModel(BpeTables tables);

    std::optional<std::int32_t> find(std::string_view token) const { return tables_.find(token); }
    /// Spelling of each id, in the vocabulary's own form; ids without a token are empty.
    const std::vector<std::string>& spellings() const { return tables_.spellings; }

    class Encoder;

private:
    struct Merge {
        std::uint32_t rank;
        std::int32_t id;  // of the merged token
    };
    /// Pairs of ids to merges: open addressing, at most half full.
    class MergeTable {
    public:
        explicit MergeTable(const std::vector<MergeRule>& rules);
        const Merge* find(std::int32_t left, std::int32_t right) const;

    private:
        struct Entry {
            std::uint64_t key;
            Merge merge;
        };
        std::size_t slot(std::uint64_t key) const;
        std::vector<Entry> entries_;
        int shift_;
    };

    BpeTables tables_;
    MergeTable merges_;
    std::vector<std::int32_t> characters_;  // ids by code point; -1: not in the vocabulary
};

/// Encodes one piece after another; not to be shared between threads. The model must outlive it.
class BpeModel::Encoder {
public:
    explicit Encoder(const BpeModel& model) : model_(model) {}
    /// Appends the tokens of well-formed `piece`. O(n log n) for n characters.
    void encode(std::string_view piece, std::vector<PlacedToken>& out);

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
    void read_characters(std::string_view text);
    void add(std::int32_t id, std::size_t begin);
    void flush_unknown();
    bool add_bytes(std::string_view character, std::size_t begin);
    void merge_few();
    void merge_many();
    std::optional<Candidate> candidate(std::int32_t left) const;

    const BpeModel& model_;
    std::vector<Symbol> symbols_;
    std::vector<Merge> pairs_;            // of merge_few: each symbol with the next
    std::optional<std::size_t> unknown_;  // where a run of unknown characters begins
};

}  // namespace fedit
