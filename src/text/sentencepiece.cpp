// text/sentencepiece.cpp: a SentencePiece BPE model as merges of ranked pairs.
#include "text/sentencepiece_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "fedit/core/error.h"
#include "text/fault_list.h"
#include "text/json_checks.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace fedit {
namespace {

using Type = SentencePieceFile::Type;

BpeTables vocabulary_of(const SentencePieceFile& file) {
    BpeTables tables;
    for (std::size_t id = 0; id < file.pieces.size(); ++id) {
        const SentencePieceFile::Piece& piece = file.pieces[id];
        tables.spellings.push_back(piece.text);
        tables.ids.emplace(piece.text, static_cast<std::int32_t>(id));
        if (piece.type == Type::unknown) tables.unknown = static_cast<std::int32_t>(id);
    }
    tables.fuse_unknown = true;
    if (!file.byte_fallback) return tables;
    for (int byte = 0; byte < 256; ++byte) {
        tables.bytes.push_back(tables.ids.at(fmt::format("<0x{:02X}>", byte)));
    }
    return tables;
}

// SentencePiece merges the neighbours that together are the piece of the highest score; of equal
// scores, the leftmost. So a pair's rank is that of its piece's score.
class MergeMaker {
public:
    MergeMaker(const SentencePieceFile& file, BpeTables& tables) : file_(file), tables_(tables) {
        for (const auto& piece : file.pieces) {
            if (piece.type == Type::normal) scores_.push_back(piece.score);
        }
        std::sort(scores_.begin(), scores_.end(), std::greater<>{});
        scores_.erase(std::unique(scores_.begin(), scores_.end()), scores_.end());
    }

    void add_pairs_of(std::size_t id) {
        const SentencePieceFile::Piece& piece = file_.pieces[id];
        const auto rank =
            std::lower_bound(scores_.begin(), scores_.end(), piece.score, std::greater<>{}) -
            scores_.begin();
        const std::string_view text = piece.text;
        for (std::size_t cut = utf8_length(text[0]); cut < text.size();
             cut += utf8_length(text[cut])) {
            const auto left = normal_piece(text.substr(0, cut));
            const auto right = normal_piece(text.substr(cut));
            if (!left || !right) continue;
            tables_.merges.push_back({.left = *left,
                                      .right = *right,
                                      .merged = static_cast<std::int32_t>(id),
                                      .rank = static_cast<std::uint32_t>(rank)});
        }
    }

private:
    std::optional<std::int32_t> normal_piece(std::string_view text) const {
        const auto id = tables_.find(text);
        if (id && file_.pieces[*id].type == Type::normal) return id;
        return std::nullopt;
    }

    const SentencePieceFile& file_;
    BpeTables& tables_;
    std::vector<float> scores_;  // from the highest to the lowest, each once
};

// Merging starts from characters, so those of a piece must be pieces.
void check_characters(const SentencePieceFile& file, const BpeTables& tables, std::size_t id,
                      const std::string& path, FaultList& faults) {
    const std::string_view text = file.pieces[id].text;
    for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
        const std::string_view character = text.substr(at, utf8_length(text[at]));
        if (tables.find(character)) continue;
        faults.add({.what = fmt::format("the piece {:?} has the character {:?}, which is no piece "
                                        "itself",
                                        text, character),
                    .where = fmt::format("{}, field pieces[{}].piece", path, id),
                    .remedy = "supported: models whose characters all are pieces"});
        return;
    }
}

BpeTables tables_of(const SentencePieceFile& file, const std::string& path) {
    BpeTables tables = vocabulary_of(file);
    MergeMaker merges(file, tables);
    FaultList faults;
    for (std::size_t id = 0; id < file.pieces.size(); ++id) {
        if (file.pieces[id].type != Type::normal) continue;
        check_characters(file, tables, id, path, faults);
        merges.add_pairs_of(id);
    }
    faults.throw_if_any(path);
    return tables;
}

// What SentencePiece itself keeps whole or never makes of text, the fast tokenizers look for in it.
std::vector<AddedToken> added_tokens_of(const SentencePieceFile& file) {
    std::vector<AddedToken> tokens;
    for (std::size_t id = 0; id < file.pieces.size(); ++id) {
        const auto& [text, score, type] = file.pieces[id];
        const bool special = type == Type::control || type == Type::unknown;
        if (!special && type != Type::user_defined) continue;
        tokens.push_back({.id = static_cast<std::int32_t>(id),
                          .content = text,
                          .special = special,
                          .normalized = type == Type::user_defined,
                          .pattern = text});
    }
    return tokens;
}

DummyPrefix prefix_of(const SentencePieceFile& file, const Json& config) {
    if (config.is_null()) {
        return file.add_dummy_prefix ? DummyPrefix::everywhere : DummyPrefix::none;
    }
    if (config.has("sp_model_kwargs") && config["sp_model_kwargs"].size() > 0) {
        refuse(config["sp_model_kwargs"], "supported: {}");
    }
    if (config.bool_or("add_prefix_space", file.add_dummy_prefix) != file.add_dummy_prefix) {
        throw InputError({.what = fmt::format("{} contradicts add_dummy_prefix of tokenizer.model",
                                              config["add_prefix_space"].excerpt()),
                          .where = config["add_prefix_space"].where(),
                          .remedy = "make both files say the same"});
    }
    if (!file.add_dummy_prefix) return DummyPrefix::none;
    return config.bool_or("legacy", true) ? DummyPrefix::everywhere : DummyPrefix::at_start;
}

// The token that `field` of the configuration names, else `piece`, if the model has it.
std::optional<std::int32_t> role(const Json& config, std::string_view field,
                                 const std::string& piece, const TokenizerFile& file) {
    if (config.is_null() || !config.has(field)) return file.find(piece);
    const Json token = config[field];
    const Json content = token.is_object() ? token["content"] : token;
    if (const auto id = file.find(content.as_string())) return id;
    throw InputError({.what = content.excerpt() + " is not a token of the tokenizer",
                      .where = content.where(),
                      .remedy = "give one of its tokens, or leave the field out"});
}

}  // namespace

TokenizerFile read_sentencepiece(const std::filesystem::path& path, const std::string& bytes,
                                 const Json& config) {
    const SentencePieceFile pieces = SentencePieceFile::parse(bytes, path.string());
    const DummyPrefix prefix = prefix_of(pieces, config);
    TokenizerFile file{.model = BpeModel(tables_of(pieces, path.string())),
                       .added = added_tokens_of(pieces),
                       .normalizer = Normalizer::of_sentencepiece(prefix),
                       .pre_tokenizer = {},
                       .around = {},
                       .decoder = TokenDecoder::of_sentencepiece(pieces.add_dummy_prefix),
                       .bos = {},
                       .eos = {},
                       .fingerprint = {}};
    add_configured_tokens(config, LookFor::in_raw_text, file);
    file.bos = role(config, "bos_token", pieces.bos_piece, file);
    file.eos = role(config, "eos_token", pieces.eos_piece, file);
    const bool adds_bos = config.is_null() || config.bool_or("add_bos_token", true);
    const bool adds_eos = !config.is_null() && config.bool_or("add_eos_token", false);
    if (adds_bos && file.bos) file.around.before.push_back(*file.bos);
    if (adds_eos && file.eos) file.around.behind.push_back(*file.eos);
    return file;
}

}  // namespace fedit
