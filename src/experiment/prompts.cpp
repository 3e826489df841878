// experiment/prompts.cpp: prompts from texts and records, and what a model folder says of answers.
#include <fmt/format.h>

#include <algorithm>

#include "fedit/core/error.h"
#include "fedit/experiment/generation.h"
#include "fedit/io/json.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view field = "eos_token_id";

/// eos_token_id of one file: a number or a list; nothing where the file or field is absent.
std::optional<std::vector<std::int32_t>> read_end_tokens(const fs::path& path,
                                                         std::int64_t vocab_size) {
    if (!fs::exists(path)) return std::nullopt;
    const Json json = Json::parse_file(path);
    if (!json.has(field)) return std::nullopt;
    const Json value = json[field];
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < (value.is_array() ? value.size() : 1); ++i) {
        const Json id = value.is_array() ? value[i] : value;
        ids.push_back(static_cast<std::int32_t>(id.as_int(0, vocab_size - 1)));
    }
    return ids;
}

/// A list of texts in JSON, or the text itself.
std::vector<std::string> read_stop_strings(const std::string& text) {
    if (text.empty()) return {};
    if (!text.starts_with('[')) return {text};
    const Json list = Json::parse(text, "--stop-strings");
    std::vector<std::string> all;
    for (std::size_t i = 0; i < list.size(); ++i) {
        all.push_back(list[i].as_string());
        if (all.back().empty()) {
            throw InputError({.what = "a stop string is empty",
                              .where = list[i].where(),
                              .remedy = "remove it"});
        }
    }
    return all;
}

/// The token that alone spells a special token's text, which never shows in an answer's text.
std::optional<std::int32_t> special_token(const Tokenizer& tokenizer, const std::string& text) {
    const std::vector<std::int32_t> ids = tokenizer.encode(text, SpecialTokens::none).ids;
    if (ids.size() != 1 || !tokenizer.decode(ids).empty()) return std::nullopt;
    return ids.front();
}

}  // namespace

std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text) {
    return tokenizer.encode(text, SpecialTokens::before).ids;
}

std::vector<std::int32_t> prompt_ids(const Record& record, const Tokenizer* tokenizer,
                                     const PromptTemplate& prompt) {
    if (record.is_plain_text) return {};
    if (!record.tokenised()) {
        return prompt_ids(*tokenizer, prompt.prompt(record.instruction, record.input));
    }
    const auto label = std::find_if(record.labels.begin(), record.labels.end(),
                                    [](std::int32_t id) { return id >= 0; });
    return {record.input_ids.begin(), record.input_ids.begin() + (label - record.labels.begin())};
}

std::vector<std::int32_t> end_tokens(const fs::path& model_folder, const Tokenizer* tokenizer,
                                     std::int64_t vocab_size) {
    auto ids = read_end_tokens(model_folder / "generation_config.json", vocab_size);
    if (!ids) ids = read_end_tokens(model_folder / "config.json", vocab_size);
    std::vector<std::int32_t> all = ids.value_or(std::vector<std::int32_t>{});
    const auto eos = tokenizer == nullptr ? std::nullopt : tokenizer->eos();
    if (eos && std::find(all.begin(), all.end(), *eos) == all.end()) all.push_back(*eos);
    return all;
}

GenerationConfig generation_config(const Config& config, const Tokenizer* tokenizer,
                                   std::int64_t vocab_size) {
    GenerationConfig result{.sampling = {.temperature = config.temperature,
                                         .top_k = config.top_k,
                                         .top_p = config.top_p,
                                         .repetition_penalty = config.repetition_penalty},
                            .seed = static_cast<std::uint64_t>(config.seed),
                            .max_new_tokens = config.max_new_tokens,
                            .end_tokens = end_tokens(config.model, tokenizer, vocab_size),
                            .stop_strings = {}};
    for (std::string& text : read_stop_strings(config.stop_strings)) {
        const auto special = tokenizer == nullptr ? std::nullopt : special_token(*tokenizer, text);
        if (special) {
            result.end_tokens.push_back(*special);
        } else {
            result.stop_strings.push_back(std::move(text));
        }
    }
    return result;
}

std::string to_json(const Prompt& prompt, const Answer& answer, const Tokenizer* tokenizer) {
    JsonWriter json;
    json.set("prompt_ids", prompt.ids).set("new_ids", answer.new_ids);
    if (tokenizer == nullptr) {
        json.set_null("text");
    } else {
        json.set("text", answer.text);
    }
    return json.set("finish_reason", to_string(answer.finish_reason)).text();
}

}  // namespace fedit
