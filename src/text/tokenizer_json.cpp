// text/tokenizer_json.cpp: the parts of a tokenizer as tokenizer.json holds them.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "fedit/core/error.h"
#include "text/bpe_file.h"
#include "text/fault_list.h"
#include "text/json_checks.h"
#include "text/tokenizer_file.h"

namespace fedit {
namespace {

// How `token` looks in a normalised text.
std::string normalized_content(const Json& content, const Normalizer& normalizer) {
    const std::string& text = content.as_string();
    MappedText mapped = MappedText::slice(text, 0, text.size());
    normalizer.apply(mapped);
    if (!mapped.text.empty()) return std::move(mapped.text);
    throw InputError({.what = content.excerpt() + " is empty when normalised",
                      .where = content.where(),
                      .remedy = "set \"normalized\": false for it"});
}

std::vector<AddedToken> read_added_tokens(const Json& root, const BpeModel& model,
                                          const Normalizer& normalizer) {
    std::vector<AddedToken> tokens;
    if (!root.has("added_tokens")) return tokens;
    const Json list = root["added_tokens"];
    FaultList faults;
    std::set<std::int32_t> ids;
    std::set<std::string> contents;
    for (std::size_t i = 0; i < list.size(); ++i) {
        try {
            const Json id = list[i]["id"];
            tokens.push_back(read_added_token(list[i], id,
                                              static_cast<std::int32_t>(id.as_int(0, max_token_id)),
                                              model, normalizer));
            if (!ids.insert(tokens.back().id).second) {
                refuse(id, "supported: an id that no added token before it has");
            }
            if (!contents.insert(tokens.back().content).second) {
                refuse(list[i]["content"], "supported: text that no added token before it has");
            }
        } catch (const InputError& error) {
            faults.add(error);
        }
    }
    faults.throw_if_any(list.where());
    return tokens;
}

// A member, or null if there is none.
Json part(const Json& root, std::string_view name) {
    return root.has(name) ? root[name] : Json::parse("null", root.source());
}

void check_template_ids(const TokenizerFile& file, const std::string& source) {
    for (const std::vector<std::int32_t>* side : {&file.around.before, &file.around.behind}) {
        for (const std::int32_t id : *side) {
            if (file.has(id)) continue;
            throw InputError(
                {.what = fmt::format("the template adds id {}, which no token has", id),
                 .where = source + ", field post_processor.special_tokens",
                 .remedy = "name tokens of the vocabulary"});
        }
    }
}

}  // namespace

AddedToken read_added_token(const Json& json, const Json& id_source, std::int32_t id,
                            const BpeModel& model, const Normalizer& normalizer) {
    AddedToken token{.id = id,
                     .content = json["content"].as_string(),
                     .special = json.bool_or("special", false),
                     .normalized = json.bool_or("normalized", true),
                     .lstrip = json.bool_or("lstrip", false),
                     .rstrip = json.bool_or("rstrip", false),
                     .single_word = json.bool_or("single_word", false)};
    if (token.content.empty()) refuse(json["content"], "supported: text that is not empty");
    token.pattern =
        token.normalized ? normalized_content(json["content"], normalizer) : token.content;
    const auto known = model.find(token.content);
    const auto& spellings = model.spellings();
    const bool id_taken = static_cast<std::size_t>(id) < spellings.size() && !spellings[id].empty();
    if (known ? *known == id : !id_taken) return token;
    throw InputError(
        {.what = fmt::format("added token {} has the id {}, but the vocabulary {}",
                             json["content"].excerpt(), id,
                             known ? fmt::format("gives it {}", *known)
                                   : fmt::format("gives that to \"{}\"", spellings[id])),
         .where = id_source.where(),
         .remedy = "give the token the same id in both, and no two tokens one id"});
}

TokenizerFile read_tokenizer_json(const std::filesystem::path& path, const std::string& text) {
    const Json root = Json::parse(text, path.string());
    PreTokenizer pre_tokenizer = PreTokenizer::from_json(part(root, "pre_tokenizer"));
    const Spelling spelling = pre_tokenizer.spells_bytes() ? Spelling::bytes : Spelling::characters;
    TokenizerFile file{.model = BpeModel(read_bpe(root["model"], spelling)),
                       .added = {},
                       .normalizer = Normalizer::from_json(part(root, "normalizer")),
                       .pre_tokenizer = std::move(pre_tokenizer),
                       .around = PostProcessor::from_json(part(root, "post_processor")),
                       .decoder = TokenDecoder::from_json(part(root, "decoder")),
                       .bos = {},
                       .eos = {},
                       .fingerprint = {}};
    file.added = read_added_tokens(root, file.model, file.normalizer);
    check_template_ids(file, path.string());
    return file;
}

}  // namespace fedit
