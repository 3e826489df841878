// text/normalizer.cpp: rewrites a text before the model sees it, remembering where each byte is
// from.
#include "text/normalizer.h"

#include <fmt/format.h>

#include <utility>

#include "fedit/core/error.h"
#include "text/json_checks.h"
#include "text/utf8.h"

namespace fedit {

MappedText MappedText::slice(std::string_view whole, std::size_t begin, std::size_t end) {
    MappedText result{std::string(whole.substr(begin, end - begin)), {}};
    result.origin.resize(end - begin);
    for (std::size_t at = begin; at < end;) {
        const std::size_t next = at + utf8_length(whole[at]);
        for (std::size_t i = at; i < next; ++i) {
            result.origin[i - begin] = static_cast<std::uint32_t>(at);
        }
        at = next;
    }
    return result;
}

MappedText MappedText::part(std::size_t begin, std::size_t end) const {
    return {text.substr(begin, end - begin), {origin.begin() + begin, origin.begin() + end}};
}

void MappedText::prepend(std::string_view prefix) {
    if (text.empty()) return;
    origin.insert(origin.begin(), prefix.size(), origin.front());
    text.insert(0, prefix);
}

void MappedText::replace(std::string_view pattern, std::string_view content) {
    std::size_t found = text.find(pattern);
    if (found == std::string::npos) return;
    MappedText result;
    result.text.reserve(text.size() * 5 / 4);
    result.origin.reserve(text.size() * 5 / 4);
    const std::size_t last = last_character(pattern);
    std::size_t done = 0;
    while (found != std::string::npos) {
        result.text.append(text, done, found - done).append(content);
        result.origin.insert(result.origin.end(), origin.begin() + done, origin.begin() + found);
        result.origin.insert(result.origin.end(), content.size(), origin[found + last]);
        done = found + pattern.size();
        found = text.find(pattern, done);
    }
    result.text.append(text, done);
    result.origin.insert(result.origin.end(), origin.begin() + done, origin.end());
    *this = std::move(result);
}

Normalizer Normalizer::from_json(const Json& json) {
    Normalizer normalizer;
    if (!json.is_null()) normalizer.add(json);
    return normalizer;
}

void Normalizer::add(const Json& json) {
    const std::string& type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["normalizers"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i]);
    } else if (type == "Prepend") {
        const std::string& prefix = json["prepend"].as_string();
        if (!prefix.empty()) steps_.push_back({"", prefix});
    } else if (type == "Replace") {
        steps_.push_back({replace_pattern(json), json["content"].as_string()});
    } else {
        refuse(json["type"], "supported normalizers: null, Sequence, Prepend, Replace");
    }
}

void Normalizer::apply(MappedText& text) const {
    for (const Step& step : steps_) {
        if (step.pattern.empty()) {
            text.prepend(step.content);
        } else {
            text.replace(step.pattern, step.content);
        }
    }
}

PreTokenizer PreTokenizer::from_json(const Json& json) {
    PreTokenizer result;
    if (json.is_null()) return result;
    if (json["type"].as_string() != "Metaspace") {
        refuse(json["type"], "supported pre_tokenizers: null, Metaspace with \"split\": false");
    }
    // A missing "split" means true in this format.
    if (!json.has("split")) {
        throw InputError({.what = "a Metaspace pre_tokenizer that splits is not supported",
                          .where = json.where() + ".split (absent: true)",
                          .remedy = "supported: \"split\": false"});
    }
    if (json["split"].as_bool()) refuse(json["split"], "supported: false");
    const std::string& scheme = json["prepend_scheme"].as_string();
    if (scheme == "always") {
        result.scheme_ = Scheme::always;
    } else if (scheme == "first") {
        result.scheme_ = Scheme::first;
    } else if (scheme == "never") {
        result.scheme_ = Scheme::never;
    } else {
        refuse(json["prepend_scheme"], "supported: always, first, never");
    }
    result.replacement_ = json["replacement"].as_string();
    return result;
}

void PreTokenizer::apply(MappedText& text) const {
    if (scheme_ == Scheme::off || text.text.empty()) return;
    text.replace(" ", replacement_);
    const bool wanted =
        scheme_ == Scheme::always || (scheme_ == Scheme::first && text.origin.front() == 0);
    if (wanted && !text.text.starts_with(replacement_)) text.prepend(replacement_);
}

}  // namespace fedit
