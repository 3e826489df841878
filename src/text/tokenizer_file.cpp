// text/tokenizer_file.cpp: the parts of a tokenizer as they are read from a folder's JSON files.
#include "text/tokenizer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/json.h"
#include "fedit/io/sha256.h"
#include "text/fault_list.h"
#include "text/json_checks.h"

namespace fedit {
namespace {

constexpr std::int64_t max_id = 1 << 24;

AddedToken read_added_token(const Json& json, const BpeModel& model) {
    AddedToken token{.id = static_cast<std::int32_t>(json["id"].as_int(0, max_id)),
                     .content = json["content"].as_string(),
                     .special = json.bool_or("special", false),
                     .normalized = json.bool_or("normalized", true),
                     .lstrip = json.bool_or("lstrip", false),
                     .rstrip = json.bool_or("rstrip", false)};
    if (json.bool_or("single_word", false)) refuse(json["single_word"], "supported: false");
    if (token.content.empty()) refuse(json["content"], "supported: text that is not empty");
    const auto known = model.find(token.content);
    const auto& spellings = model.spellings();
    const bool id_taken =
        static_cast<std::size_t>(token.id) < spellings.size() && !spellings[token.id].empty();
    if (known ? *known != token.id : id_taken) {
        throw InputError(
            {.what = fmt::format("added token {} has the id {}, but model.vocab {}",
                                 json["content"].excerpt(), token.id,
                                 known ? fmt::format("gives it {}", *known)
                                       : fmt::format("gives that to \"{}\"", spellings[token.id])),
             .where = json["id"].where(),
             .remedy = "give the token the same id in both, and no two tokens one id"});
    }
    return token;
}

std::vector<AddedToken> read_added_tokens(const Json& root, const BpeModel& model) {
    std::vector<AddedToken> tokens;
    if (!root.has("added_tokens")) return tokens;
    const Json list = root["added_tokens"];
    FaultList faults;
    std::set<std::int32_t> ids;
    for (std::size_t i = 0; i < list.size(); ++i) {
        try {
            tokens.push_back(read_added_token(list[i], model));
            if (!ids.insert(tokens.back().id).second) {
                refuse(list[i]["id"], "supported: an id that no added token before it has");
            }
        } catch (const InputError& error) {
            faults.add(error);
        }
    }
    faults.throw_if_any(list.where());
    return tokens;
}

TokenTemplate read_template(const Json& root) {
    TokenTemplate result;
    if (!root.has("post_processor")) return result;
    const Json processor = root["post_processor"];
    if (processor["type"].as_string() != "TemplateProcessing") {
        refuse(processor["type"], "supported post_processors: null, TemplateProcessing");
    }
    const Json single = processor["single"];
    bool text_seen = false;
    for (std::size_t i = 0; i < single.size(); ++i) {
        const Json piece = single[i];
        if (piece.has("Sequence")) {
            if (text_seen || piece["Sequence"]["id"].as_string() != "A") {
                refuse(piece, "supported: the sequence A, once");
            }
            text_seen = true;
            continue;
        }
        const std::string name = piece["SpecialToken"]["id"].as_string();
        const Json ids = processor["special_tokens"][name]["ids"];
        std::vector<std::int32_t>& side = text_seen ? result.behind : result.before;
        for (std::size_t k = 0; k < ids.size(); ++k) {
            side.push_back(static_cast<std::int32_t>(ids[k].as_int(0, max_id)));
        }
    }
    if (!text_seen) refuse(single, "supported: a template with the sequence A");
    return result;
}

// "bos_token" or "eos_token" of a configuration: a string, an object with "content", or null.
std::optional<std::int32_t> configured_token(const Json& config, std::string_view field,
                                             const TokenizerFile& file) {
    if (!config.has(field)) return std::nullopt;
    const Json token = config[field];
    const Json content = token.is_object() ? token["content"] : token;
    if (const auto id = file.find(content.as_string())) return id;
    throw InputError({.what = content.excerpt() + " is not a token of tokenizer.json",
                      .where = content.where(),
                      .remedy = "give one of its tokens, or null"});
}

// tokenizer_config.json may say whether BOS or EOS is added; tokenizer.json's template decides.
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

void read_special_roles(const std::filesystem::path& folder, TokenizerFile& file, Sha256& hash) {
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
        const std::filesystem::path path = folder / name;
        if (!std::filesystem::exists(path)) continue;
        const std::string text = read_text_file(path);
        hash.add(name).add(text);
        const Json config = Json::parse(text, path.string());
        file.bos = configured_token(config, "bos_token", file);
        file.eos = configured_token(config, "eos_token", file);
        check_agrees(config, "add_bos_token", file.bos, file.single.before);
        check_agrees(config, "add_eos_token", file.eos, file.single.behind);
        return;
    }
}

// A member, or null if there is none.
Json part(const Json& root, std::string_view name) {
    return root.has(name) ? root[name] : Json::parse("null", root.source());
}

void check_template_ids(const TokenizerFile& file, const std::string& source) {
    for (const std::vector<std::int32_t>* side : {&file.single.before, &file.single.behind}) {
        for (const std::int32_t id : *side) {
            const bool in_model = static_cast<std::size_t>(id) < file.model.spellings().size() &&
                                  !file.model.spellings()[id].empty();
            const bool is_added = std::any_of(file.added.begin(), file.added.end(),
                                              [&](const AddedToken& t) { return t.id == id; });
            if (in_model || is_added) continue;
            throw InputError(
                {.what = fmt::format("the template adds id {}, which no token has", id),
                 .where = source + ", field post_processor.special_tokens",
                 .remedy = "name tokens of the vocabulary"});
        }
    }
}

}  // namespace

std::optional<std::int32_t> TokenizerFile::find(const std::string& token) const {
    const auto found = std::find_if(added.begin(), added.end(),
                                    [&](const AddedToken& t) { return t.content == token; });
    if (found != added.end()) return found->id;
    return model.find(token);
}

TokenizerFile TokenizerFile::read(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder / "tokenizer.json";
    if (!std::filesystem::exists(path)) {
        throw InputError({.what = "there is no tokenizer.json",
                          .where = path.string(),
                          .remedy = "give a Hugging Face model folder; a tokenizer.model alone is "
                                    "not supported"});
    }
    const std::string text = read_text_file(path);
    Sha256 hash;
    hash.add("tokenizer.json").add(text);
    const Json root = Json::parse(text, path.string());

    TokenizerFile file{.model = BpeModel::from_json(root["model"]),
                       .added = {},
                       .normalizer = Normalizer::from_json(part(root, "normalizer")),
                       .pre_tokenizer = PreTokenizer::from_json(part(root, "pre_tokenizer")),
                       .single = read_template(root),
                       .decoder = TokenDecoder::from_json(part(root, "decoder")),
                       .bos = {},
                       .eos = {},
                       .fingerprint = {}};
    file.added = read_added_tokens(root, file.model);
    check_template_ids(file, path.string());
    read_special_roles(folder, file, hash);
    file.fingerprint = to_hex(hash.finish());
    return file;
}

}  // namespace fedit
