// text/normalizer.cpp: rewrites a text before it is cut and encoded.
#include "text/normalizer.h"

#include <utility>

#include "text/unicode.h"

namespace fedit {

Normalizer Normalizer::from_json(const Json& json) {
    Normalizer normalizer;
    StepBudget budget;
    if (!json.is_null()) normalizer.add(json, budget);
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

void Normalizer::add(const Json& json, StepBudget& budget) {
    const std::string& type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["normalizers"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i], budget);
    } else if (type == "NFC") {
        budget.add(json);
        steps_.push_back({.kind = Kind::compose});
    } else if (type == "Prepend") {
        const std::string& prefix = json["prepend"].as_string();
        budget.add(json);
        if (!prefix.empty()) steps_.push_back({.kind = Kind::prepend, .content = prefix});
    } else if (type == "Replace") {
        Step step{.kind = Kind::replace,
                  .pattern = replace_pattern(json),
                  .content = json["content"].as_string()};
        budget.add_replacement(json, step.pattern.size(), step.content.size());
        steps_.push_back(std::move(step));
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
