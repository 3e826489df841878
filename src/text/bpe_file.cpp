// text/bpe_file.cpp: reads the "model" of a tokenizer.json.
#include "text/bpe_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fedit/core/error.h"
#include "text/byte_alphabet.h"
#include "text/json_checks.h"

namespace fedit {
namespace {

// Fields that change the result and are not honoured; they may be absent, null, zero or empty.
void refuse_unsupported(const Json& model) {
    if (model.has("type") && model["type"].as_string() != "BPE") {
        refuse(model["type"], "supported models: BPE");
    }
    for (const char* field : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!model.has(field)) continue;
        const Json value = model[field];
        if (value.is_string() && value.as_string().empty()) continue;
        if (value.is_number() && value.as_double() == 0) continue;
        refuse(value, "supported: null");
    }
}

void read_vocabulary(const Json& json, BpeTables& tables) {
    const Json vocab = json["vocab"];
    tables.ids.reserve(vocab.size());
    for (const std::string& token : vocab.keys()) {
        const auto id = static_cast<std::int32_t>(vocab[token].as_int(0, max_token_id));
        if (token.empty()) {
            throw InputError({.what = fmt::format("the token with the id {} is empty", id),
                              .where = vocab.where(),
                              .remedy = "take it out of the vocabulary"});
        }
        std::vector<std::string>& spellings = tables.spellings;
        if (spellings.size() <= static_cast<std::size_t>(id)) spellings.resize(id + 1);
        if (!spellings[id].empty()) {
            throw InputError({.what = fmt::format("tokens \"{}\" and \"{}\" share the id {}",
                                                  spellings[id], token, id),
                              .where = vocab.where(),
                              .remedy = "give each token an id of its own"});
        }
        spellings[id] = token;
        tables.ids.emplace(token, id);
    }
}

// The two pieces of "a b" or ["a", "b"].
std::pair<std::string, std::string> pieces_of(const Json& merge) {
    constexpr std::string_view supported =
        "supported: two pieces with one space between, or a pair of strings";
    if (merge.is_string()) {
        const std::string& both = merge.as_string();
        const std::size_t space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
            refuse(merge, supported);
        }
        return {both.substr(0, space), both.substr(space + 1)};
    }
    if (!merge.is_array() || merge.size() != 2) refuse(merge, supported);
    return {merge[0].as_string(), merge[1].as_string()};
}

std::int32_t require(const BpeTables& tables, std::string_view token, const Json& merge) {
    if (const auto id = tables.find(token)) return *id;
    throw InputError({.what = fmt::format("merge {} needs the token \"{}\", which the vocabulary "
                                          "lacks",
                                          merge.excerpt(), token),
                      .where = merge.where(),
                      .remedy = "take vocab and merges from the same tokenizer"});
}

void read_merges(const Json& merges, BpeTables& tables) {
    tables.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
        const Json merge = merges[i];
        // The head line of the text files that such lists were made from.
        if (merge.is_string() && merge.as_string().starts_with("#version")) continue;
        const auto [left, right] = pieces_of(merge);
        tables.merges.push_back({.left = require(tables, left, merge),
                                 .right = require(tables, right, merge),
                                 .merged = require(tables, left + right, merge),
                                 .rank = static_cast<std::uint32_t>(i)});
    }
}

bool spells_every_byte(const BpeTables& tables) {
    for (int byte = 0; byte < 256; ++byte) {
        if (!tables.find(spell_byte(static_cast<unsigned char>(byte)))) return false;
    }
    return true;
}

void read_unknown(const Json& json, Spelling spelling, BpeTables& tables) {
    if (json.has("unk_token")) tables.unknown = tables.find(json["unk_token"].as_string());
    if (tables.unknown) return;
    const bool spells_all =
        spelling == Spelling::bytes
            ? spells_every_byte(tables)
            : !tables.bytes.empty() && std::ranges::find(tables.bytes, -1) == tables.bytes.end();
    if (spells_all) return;
    if (json.has("unk_token")) {
        const Json token = json["unk_token"];
        throw InputError(
            {.what = "the unknown token " + token.excerpt() + " is not in the vocabulary",
             .where = token.where(),
             .remedy = "give a token of model.vocab, or null where bytes spell all"});
    }
    throw InputError({.what = "characters outside the vocabulary would vanish: there is no unknown "
                              "token, and not a token for each byte",
                      .where = json.where() + ".unk_token",
                      .remedy = "give unk_token, or byte_fallback with <0x00> to <0xFF>, or a "
                                "ByteLevel pre_tokenizer with the 256 characters of its alphabet"});
}

}  // namespace

BpeTables read_bpe(const Json& model, Spelling spelling) {
    refuse_unsupported(model);
    BpeTables tables;
    read_vocabulary(model, tables);
    read_merges(model["merges"], tables);
    if (model.bool_or("byte_fallback", false)) {
        for (int byte = 0; byte < 256; ++byte) {
            tables.bytes.push_back(tables.find(fmt::format("<0x{:02X}>", byte)).value_or(-1));
        }
    }
    read_unknown(model, spelling, tables);
    tables.fuse_unknown = model.bool_or("fuse_unk", false);
    tables.ignore_merges = model.bool_or("ignore_merges", false);
    return tables;
}

}  // namespace fedit
