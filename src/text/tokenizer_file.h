// text/tokenizer_file.h: the parts of a tokenizer as they are read from a folder's JSON files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/token_decoder.h"

namespace fedit {

/// What TemplateProcessing puts around one text.
struct TokenTemplate {
    std::vector<std::int32_t> before, behind;
};

struct TokenizerFile {
    BpeModel model;
    std::vector<AddedToken> added;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    TokenTemplate single;
    TokenDecoder decoder;
    std::optional<std::int32_t> bos, eos;
    std::string fingerprint;  ///< SHA-256 (hex) of the files read

    /// Reads tokenizer.json and, where it is there, tokenizer_config.json (else
    /// special_tokens_map.json) for BOS and EOS. Truncation and padding settings are not read: how
    /// long a text may be is the caller's choice. Throws InputError for anything not honoured.
    static TokenizerFile read(const std::filesystem::path& folder);

    /// The id of an added token or of one of the model's.
    std::optional<std::int32_t> find(const std::string& token) const;
};

}  // namespace fedit
