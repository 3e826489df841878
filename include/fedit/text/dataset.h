// text/dataset.h: instruction records from files, and their token ids and labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fedit/text/prompt.h"
#include "fedit/text/tokenizer.h"

namespace fedit {

/// One instruction record, or one that comes already tokenised (then the texts are empty).
struct Record {
    std::string instruction, input, response;
    bool is_plain_text = false;                   ///< no prompt: the response is all there is
    std::string category;                         ///< empty if the file has none
    std::vector<std::string> choices{};           ///< of a multiple-choice record, else empty
    std::size_t answer = 0;                       ///< the right one of `choices`
    std::vector<std::int32_t> input_ids, labels;  ///< already tokenised: labels -1 where none
    bool tokenised() const { return !input_ids.empty(); }
};

/// What a file without a record is.
enum class NoRecords : std::uint8_t {
    fault,
    fine_in_array  ///< [] says that there are none; an empty file may have lost them
};

/// Records of one JSON array or JSON-lines file (told by content, not by name). Keys: instruction,
/// input | context, output | response, category; or text alone, which has no prompt; or input_ids
/// and labels (-100: none; at a position t the label is the token at t itself, the target of
/// position t - 1) or first_label. A record of texts may have choices (at least two texts) and
/// answer (the right one's index from 0, or its text), which is then the response where none is
/// given. Throws InputError with all faulty lines or elements (at most 20 are named, the others
/// counted) at once; an absent instruction or response is a fault, an empty one is not.
std::vector<Record> read_records(const std::filesystem::path& path,
                                 NoRecords none = NoRecords::fault);

/// Where held-out records lie: of a folder its global_test.json, which may be absent; else `data`.
std::filesystem::path held_out_file(const std::filesystem::path& data);

/// A folder in Shepherd's layout: local_training_<k>.json for k = 0 .. N-1, global_test.json. A
/// client whose file is [] has no records.
struct ClientFolder {
    std::vector<std::vector<Record>> clients;
    std::vector<Record> test;  ///< empty if there is no global_test.json
};
/// `num_clients` < 0: all files found. Throws InputError for gaps in k or too few files.
ClientFolder read_client_folder(const std::filesystem::path& folder, int num_clients);

/// How records become tokens.
struct EncodeOptions {
    int cutoff_len = 512;          ///< tokens kept of a record, also of a tokenised one, > 0
    bool train_on_inputs = false;  ///< label the prompt's tokens too
};

/// Token ids and labels of many records, end to end. labels[t] is the token to be predicted *at* t
/// from t - 1, or -1. A record's first label is never a target.
struct EncodedRecords {
    std::vector<std::int32_t> tokens, labels;
    std::vector<std::int64_t> begin{0};   ///< size() + 1 offsets
    std::vector<std::int64_t> targets;    ///< labelled targets of each record; 0: trains nothing
    std::vector<std::int32_t> category;   ///< index into `categories`, one a record
    std::vector<std::string> categories;  ///< names, in order of first appearance
    std::int64_t size() const { return static_cast<std::int64_t>(begin.size()) - 1; }
    std::int64_t length(std::int64_t record) const { return begin[record + 1] - begin[record]; }
    std::int64_t records_with_target() const;
    std::int64_t longest() const;
};

/// Encodes records: prompt + response are tokenised once as one text with the tokenizer's template;
/// a token is prompt when it begins before the prompt's end; EOS is appended only when there is
/// room below the cutoff and the text does not end with it. An empty response is legal: only EOS is
/// then a target. Tokenised records are cut, and get no EOS. `tokenizer` may be null if every
/// record comes tokenised. Throws InputError naming the record for ids outside [0, vocab_size).
EncodedRecords encode_records(std::span<const Record> records, const Tokenizer* tokenizer,
                              const PromptTemplate& prompt, const EncodeOptions& options,
                              std::int64_t vocab_size);

/// The records `which` of `all`, in that order, with the same category table.
EncodedRecords select(const EncodedRecords& all, std::span<const std::int64_t> which);

/// SHA-256 (hex) of tokens, labels, offsets and categories: part of a run's identity.
std::string fingerprint(const EncodedRecords& records);

}  // namespace fedit
