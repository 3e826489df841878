// text/tokenizer_file.h: the parts of a tokenizer as they are read from a folder's files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fedit/io/sha256.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/token_decoder.h"

namespace fedit {

struct TokenizerFile {
    BpeModel model;
    std::vector<AddedToken> added;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    PostProcessor around;
    TokenDecoder decoder;
    std::optional<std::int32_t> bos, eos;
    std::string fingerprint;  ///< SHA-256 (hex) of the files read

    /// Reads tokenizer.json, else tokenizer.model, and, where it is there, tokenizer_config.json
    /// (else special_tokens_map.json). Truncation and padding settings are not read: how long a
    /// text may be is the caller's choice. Throws InputError for anything not honoured.
    static TokenizerFile read(const std::filesystem::path& folder);

    /// The id of an added token or of one of the model's.
    std::optional<std::int32_t> find(const std::string& token) const;
    bool has(std::int32_t id) const;
};

/// tokenizer_config.json, else special_tokens_map.json of `folder`, added to `hash`; null if there
/// is neither.
Json read_tokenizer_config(const std::filesystem::path& folder, Sha256& hash);

/// The parts that tokenizer.json holds itself. `text`: the file's content.
TokenizerFile read_tokenizer_json(const std::filesystem::path& path, const std::string& text);

/// The same from a SentencePiece model; `config` decides on BOS, EOS and the prefix.
TokenizerFile read_sentencepiece(const std::filesystem::path& path, const std::string& bytes,
                                 const Json& config);

/// Where added tokens are looked for: where "normalized" says, or always in the user's own text, as
/// beside a SentencePiece model.
enum class LookFor { as_flagged, in_raw_text };

/// Adds or changes tokens as "added_tokens_decoder" of `config` says.
void add_configured_tokens(const Json& config, LookFor look, TokenizerFile& file);

/// Reads an added token's flags and content, and checks its id against the model's.
AddedToken read_added_token(const Json& json, const Json& id_source, std::int32_t id,
                            const BpeModel& model, const Normalizer& normalizer);

}  // namespace fedit
