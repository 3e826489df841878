// text/tokenizer_file.cpp: reads a folder's tokenizer, and what tokenizer_config.json says of it.
#include "text/tokenizer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/json.h"
#include "text/fault_list.h"
#include "text/json_checks.h"

namespace fedit {
namespace {

// "bos_token" or "eos_token" of a configuration: a string, an object with "content", or null.
std::optional<std::int32_t> configured_token(const Json& config, std::string_view field,
                                             const TokenizerFile& file) {
    if (!config.has(field)) return std::nullopt;
    const Json token = config[field];
    const Json content = token.is_object() ? token["content"] : token;
    if (const auto id = file.find(content.as_string())) return id;
    throw InputError({.what = content.excerpt() + " is not a token of the tokenizer",
                      .where = content.where(),
                      .remedy = "give one of its tokens, or null"});
}

// tokenizer_config.json may say whether BOS or EOS is added; the template decides.
void check_agrees(const Json& config, const char* field, std::optional<std::int32_t> token,
                  const std::vector<std::int32_t>& added) {
    if (!config.has(field) || !token) return;
    const bool adds = std::find(added.begin(), added.end(), *token) != added.end();
    if (config[field].as_bool() == adds) return;
    throw InputError({.what = fmt::format("{} contradicts the template of tokenizer.json, which {} "
                                          "this token",
                                          config[field].excerpt(), adds ? "adds" : "does not add"),
                      .where = config[field].where(),
                      .remedy = "make both files say the same"});
}

std::int32_t id_of_key(const Json& list, const std::string& key) {
    std::int32_t id = -1;
    const auto [stopped, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || stopped != key.data() + key.size() || id < 0 || id > max_token_id) {
        throw InputError({.what = fmt::format("\"{}\" is no token id", key),
                          .where = list.where(),
                          .remedy = fmt::format("give ids from 0 to {}", max_token_id)});
    }
    return id;
}

// What is written in added_tokens.json must have come in by another file.
void check_old_added_tokens(const std::filesystem::path& path, const TokenizerFile& file,
                            Sha256& hash) {
    if (!std::filesystem::exists(path)) return;
    const std::string text = read_text_file(path);
    hash.add(path.filename().string()).add(text);
    const Json tokens = Json::parse(text, path.string());
    for (const std::string& token : tokens.keys()) {
        if (file.find(token) == tokens[token].as_int(0, max_token_id)) continue;
        throw InputError({.what = fmt::format("token \"{}\" with the id {} is not one of "
                                              "tokenizer.model's",
                                              token, tokens[token].excerpt()),
                          .where = tokens[token].where(),
                          .remedy = "give it in added_tokens_decoder of tokenizer_config.json, or "
                                    "give a tokenizer.json"});
    }
}

}  // namespace

std::optional<std::int32_t> TokenizerFile::find(const std::string& token) const {
    const auto found = std::find_if(added.begin(), added.end(),
                                    [&](const AddedToken& t) { return t.content == token; });
    if (found != added.end()) return found->id;
    return model.find(token);
}

bool TokenizerFile::has(std::int32_t id) const {
    const std::vector<std::string>& spellings = model.spellings();
    if (static_cast<std::size_t>(id) < spellings.size() && !spellings[id].empty()) return true;
    return std::any_of(added.begin(), added.end(), [&](const auto& t) { return t.id == id; });
}

void add_configured_tokens(const Json& config, LookFor look, TokenizerFile& file) {
    if (config.is_null() || !config.has("added_tokens_decoder")) return;
    const Json list = config["added_tokens_decoder"];
    FaultList faults;
    for (const std::string& key : list.keys()) {
        try {
            AddedToken token = read_added_token(list[key], list[key], id_of_key(list, key),
                                                file.model, file.normalizer);
            if (look == LookFor::in_raw_text) {
                token.normalized = false;
                token.pattern = token.content;
            }
            const auto same =
                std::find_if(file.added.begin(), file.added.end(), [&](const AddedToken& t) {
                    return t.id == token.id || t.content == token.content;
                });
            if (same == file.added.end()) {
                file.added.push_back(token);
            } else if (same->id == token.id && same->content == token.content) {
                *same = token;
            } else {
                throw InputError(
                    {.what = fmt::format("token {} is {} with the id {} elsewhere",
                                         list[key]["content"].excerpt(), same->content, same->id),
                     .where = list[key].where(),
                     .remedy = "give each token one id"});
            }
        } catch (const InputError& error) {
            faults.add(error);
        }
    }
    faults.throw_if_any(list.where());
}

Json read_tokenizer_config(const std::filesystem::path& folder, Sha256& hash) {
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
        const std::filesystem::path path = folder / name;
        if (!std::filesystem::exists(path)) continue;
        const std::string text = read_text_file(path);
        hash.add(name).add(text);
        return Json::parse(text, path.string());
    }
    return Json::parse("null", (folder / "tokenizer_config.json").string());
}

TokenizerFile TokenizerFile::read(const std::filesystem::path& folder) {
    const std::filesystem::path json = folder / "tokenizer.json";
    const std::filesystem::path pieces = folder / "tokenizer.model";
    const bool is_json = std::filesystem::exists(json);
    if (!is_json && !std::filesystem::exists(pieces)) {
        throw InputError({.what = "there is no tokenizer.json and no tokenizer.model",
                          .where = json.string(),
                          .remedy = "give a Hugging Face model folder with one of them"});
    }
    const std::filesystem::path& path = is_json ? json : pieces;
    const std::string text = read_text_file(path);
    Sha256 hash;
    hash.add(path.filename().string()).add(text);
    const Json config = read_tokenizer_config(folder, hash);

    TokenizerFile file =
        is_json ? read_tokenizer_json(path, text) : read_sentencepiece(path, text, config);
    if (is_json) add_configured_tokens(config, LookFor::as_flagged, file);
    if (!is_json) check_old_added_tokens(folder / "added_tokens.json", file, hash);
    if (is_json && !config.is_null()) {
        file.bos = configured_token(config, "bos_token", file);
        file.eos = configured_token(config, "eos_token", file);
        check_agrees(config, "add_bos_token", file.bos, file.around.before);
        check_agrees(config, "add_eos_token", file.eos, file.around.behind);
    }
    file.fingerprint = to_hex(hash.finish());
    return file;
}

}  // namespace fedit
