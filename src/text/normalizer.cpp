// text/normalizer.cpp: rewrites a text before it is cut and encoded.
#include "text/normalizer.h"

#include "text/json_checks.h"
#include "text/unicode.h"

namespace fedit {

Normalizer Normalizer::from_json(const Json& json) {
    Normalizer normalizer;
    if (!json.is_null()) normalizer.add(json);
    return normalizer;
}

Normalizer Normalizer::of_sentencepiece(DummyPrefix prefix) {
    constexpr const char* bar = "\u2581";
    Normalizer normalizer;
    if (prefix != DummyPrefix::none) {
        const Kind kind = prefix == DummyPrefix::at_start ? Kind::prepend_at_start : Kind::prepend;
        normalizer.steps_.push_back({.kind = kind, .content = bar});
    }
    normalizer.steps_.push_back({.kind = Kind::replace, .pattern = " ", .content = bar});
    return normalizer;
}

void Normalizer::add(const Json& json) {
    const std::string& type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["normalizers"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i]);
    } else if (type == "NFC") {
        steps_.push_back({.kind = Kind::compose});
    } else if (type == "Prepend") {
        const std::string& prefix = json["prepend"].as_string();
        if (!prefix.empty()) steps_.push_back({.kind = Kind::prepend, .content = prefix});
    } else if (type == "Replace") {
        steps_.push_back({.kind = Kind::replace,
                          .pattern = replace_pattern(json),
                          .content = json["content"].as_string()});
    } else {
        refuse(json["type"], "supported normalizers: null, Sequence, NFC, Prepend, Replace");
    }
}

void Normalizer::apply(MappedText& text) const {
    for (const Step& step : steps_) {
        switch (step.kind) {
            case Kind::compose:
                compose(text);
                break;
            case Kind::prepend:
                text.prepend(step.content);
                break;
            case Kind::prepend_at_start:
                if (!text.text.empty() && text.origin.front() == 0) text.prepend(step.content);
                break;
            case Kind::replace:
                text.replace(step.pattern, step.content);
                break;
        }
    }
}

}  // namespace fedit
