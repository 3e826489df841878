// experiment/evaluation_text.cpp: evaluations as JSON and as tables.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "fedit/experiment/evaluation.h"
#include "fedit/io/json.h"

namespace fedit {
namespace {

void add_score(JsonWriter& json, const CategoryScore& score) {
    json.set("loss", score.loss()).set("perplexity", score.perplexity());
    json.set("labelled_tokens", score.labelled_tokens).set("records", score.records);
    json.set("records_without_label", score.records_without_label);
    json.set("token_accuracy", score.token_accuracy());
    if (score.answers > 0) {
        const Rouge rouge = score.rouge();
        json.set("answers", score.answers).set("rouge1", rouge.rouge1).set("rouge2", rouge.rouge2);
        json.set("rougeL", rouge.rougeL).set("rougeLsum", rouge.rougeLsum);
    }
    if (score.choice_records > 0) {
        json.set("choice_records", score.choice_records);
        json.set("choice_accuracy", score.choice_accuracy());
        json.set("choice_accuracy_per_token", score.choice_accuracy_per_token());
    }
}

void add_evaluation(JsonWriter& json, const Evaluation& evaluation) {
    JsonWriter categories;
    for (const CategoryScore& score : evaluation.categories) {
        JsonWriter category;
        add_score(category, score);
        categories.set(score.category, category);
    }
    add_score(json, evaluation.all);
    json.set("by_category", categories);
}

/// A number that the tables show.
struct Measure {
    std::string_view name;
    int decimals;
    double (*value)(const CategoryScore&);
};

constexpr std::array likelihood{
    Measure{"loss [nats]", 4, [](const CategoryScore& s) { return s.loss(); }},
    Measure{"perplexity", 3, [](const CategoryScore& s) { return s.perplexity(); }},
    Measure{"token acc.", 4, [](const CategoryScore& s) { return s.token_accuracy(); }},
};
constexpr std::array overlap{
    Measure{"rouge1", 4, [](const CategoryScore& s) { return s.rouge().rouge1; }},
    Measure{"rouge2", 4, [](const CategoryScore& s) { return s.rouge().rouge2; }},
    Measure{"rougeL", 4, [](const CategoryScore& s) { return s.rouge().rougeL; }},
    Measure{"rougeLsum", 4, [](const CategoryScore& s) { return s.rouge().rougeLsum; }},
};
constexpr std::array choice{
    Measure{"choice acc.", 4, [](const CategoryScore& s) { return s.choice_accuracy(); }},
    Measure{"acc. a token", 4,
            [](const CategoryScore& s) { return s.choice_accuracy_per_token(); }},
};

std::vector<Measure> measures_of(const CategoryScore& all) {
    std::vector<Measure> measures(likelihood.begin(), likelihood.end());
    if (all.answers > 0) measures.insert(measures.end(), overlap.begin(), overlap.end());
    if (all.choice_records > 0) measures.insert(measures.end(), choice.begin(), choice.end());
    return measures;
}

std::string shown(const Measure& measure, const CategoryScore& score, int width) {
    const double value = measure.value(score);
    return std::isfinite(value) ? fmt::format(" {:>{}.{}f}", value, width, measure.decimals)
                                : fmt::format(" {:>{}}", "-", width);
}

std::vector<CategoryScore> lines_of(const Evaluation& evaluation) {
    std::vector<CategoryScore> lines = evaluation.categories;
    lines.push_back(evaluation.all);
    return lines;
}

}  // namespace

std::string to_json(const Evaluation& evaluation) {
    JsonWriter json;
    add_evaluation(json, evaluation);
    return json.text(1);
}

std::string to_json(std::span<const NamedEvaluation> models) {
    std::vector<JsonWriter> all;
    for (const NamedEvaluation& model : models) {
        all.emplace_back().set("model", model.model);
        add_evaluation(all.back(), model.evaluation);
    }
    return JsonWriter().set("models", all).text(1);
}

std::string to_table(const Evaluation& evaluation) {
    constexpr int width = 12;
    const std::vector<Measure> measures = measures_of(evaluation.all);
    std::string table = fmt::format("{:<26}", "category");
    for (const Measure& measure : measures) table += fmt::format(" {:>{}}", measure.name, width);
    table += fmt::format(" {:>9} {:>9} {:>10}\n", "tokens", "records", "no label");
    for (const CategoryScore& score : lines_of(evaluation)) {
        table += fmt::format("{:<26}", score.category);
        for (const Measure& measure : measures) table += shown(measure, score, width);
        table += fmt::format(" {:>9} {:>9} {:>10}\n", score.labelled_tokens, score.records,
                             score.records_without_label);
    }
    return table;
}

std::string to_table(std::span<const NamedEvaluation> models) {
    constexpr int width = 12;
    std::string table;
    for (std::size_t m = 0; m < models.size(); ++m) {
        table += fmt::format("model {}: {}\n", m + 1, models[m].model);
    }
    table += fmt::format("\n{:<26} {:<12}", "category", "measure");
    for (std::size_t m = 0; m < models.size(); ++m) {
        table += fmt::format(" {:>{}}", fmt::format("model {}", m + 1), width);
    }
    table += '\n';
    std::vector<std::vector<CategoryScore>> columns;
    for (const NamedEvaluation& model : models) columns.push_back(lines_of(model.evaluation));
    for (std::size_t line = 0; line < columns.front().size(); ++line) {
        for (const Measure& measure : measures_of(columns.front().back())) {
            table += fmt::format("{:<26} {:<12}", columns.front()[line].category, measure.name);
            for (const auto& column : columns) table += shown(measure, column[line], width);
            table += '\n';
        }
    }
    return table;
}

}  // namespace fedit
