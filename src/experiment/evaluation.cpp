// experiment/evaluation.cpp: deals record blocks to ranks and adds per-record sums in record order.
#include "fedit/experiment/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "fedit/io/json.h"

namespace fedit {

namespace {

/// Records [first, last) of the blocks that `rank` evaluates: adjacent blocks of about equal
/// tokens.
struct Range {
    std::int64_t first = 0, last = 0;
};

std::vector<Range> deal_blocks(const EncodedRecords& records, int batch_size, int ranks) {
    const std::int64_t blocks = (records.size() + batch_size - 1) / batch_size;
    const double all_tokens = static_cast<double>(records.tokens.size());
    std::vector<Range> ranges(static_cast<std::size_t>(ranks));
    std::int64_t block = 0;
    for (int rank = 0; rank < ranks; ++rank) {
        Range& range = ranges[static_cast<std::size_t>(rank)];
        range.first = std::min(block * batch_size, records.size());
        const double share = all_tokens * (rank + 1) / ranks;
        while (block < blocks &&
               static_cast<double>(records.begin[static_cast<std::size_t>(
                   std::min((block + 1) * batch_size, records.size()))]) <= share) {
            ++block;
        }
        if (rank + 1 == ranks) block = blocks;
        range.last = std::min(block * batch_size, records.size());
    }
    return ranges;
}

void add_record(CategoryScore& score, double loss, std::int64_t targets) {
    score.loss_sum += loss;
    score.labelled_tokens += targets;
    score.records += 1;
    score.records_without_label += targets == 0 ? 1 : 0;
}

JsonWriter score_json(const CategoryScore& score) {
    JsonWriter json;
    json.set("loss", score.loss()).set("perplexity", score.perplexity());
    json.set("labelled_tokens", score.labelled_tokens).set("records", score.records);
    json.set("records_without_label", score.records_without_label);
    return json;
}

}  // namespace

double CategoryScore::loss() const {
    return labelled_tokens == 0 ? std::numeric_limits<double>::quiet_NaN()
                                : loss_sum / static_cast<double>(labelled_tokens);
}

double CategoryScore::perplexity() const {
    return std::exp(loss());
}

Evaluation evaluate(const Communicator& comm, Decoder& decoder, Backend& backend,
                    const EncodedRecords& records, std::span<const float> x, int batch_size) {
    const std::vector<Range> ranges = deal_blocks(records, batch_size, comm.size());
    const Range mine = ranges[static_cast<std::size_t>(comm.rank())];
    EvaluationSums sums;
    comm.together("evaluate", [&] {
        if (mine.first < mine.last) {
            sums =
                evaluate_records(decoder, backend, records, mine.first, mine.last, x, batch_size);
        }
    });
    const std::vector<Bytes> parts = comm.all_gather(std::as_bytes(std::span(sums.loss)));

    Evaluation evaluation;
    evaluation.all.category = "all";
    std::map<std::string, CategoryScore> by_name;
    std::int64_t record = 0;
    for (const Bytes& part : parts) {
        std::vector<double> losses(part.size() / sizeof(double));
        std::copy(part.begin(), part.end(), reinterpret_cast<std::byte*>(losses.data()));
        for (const double loss : losses) {
            const auto at = static_cast<std::size_t>(record++);
            add_record(evaluation.all, loss, records.targets[at]);
            const std::string& name =
                records.categories[static_cast<std::size_t>(records.category[at])];
            if (!name.empty()) {
                CategoryScore& score = by_name[name];
                score.category = name;
                add_record(score, loss, records.targets[at]);
            }
        }
    }
    for (auto& [name, score] : by_name) evaluation.categories.push_back(std::move(score));
    return evaluation;
}

std::string to_json(const Evaluation& evaluation) {
    JsonWriter categories;
    for (const CategoryScore& score : evaluation.categories)
        categories.set(score.category, score_json(score));
    return score_json(evaluation.all).set("by_category", categories).text(1);
}

std::string to_table(const Evaluation& evaluation) {
    std::string table = fmt::format("{:<26} {:>10} {:>12} {:>9} {:>9} {:>10}\n", "category",
                                    "loss [nats]", "perplexity", "tokens", "records", "no label");
    const auto line = [&](const CategoryScore& score) {
        table += fmt::format("{:<26} {:>10.4f} {:>12.3f} {:>9} {:>9} {:>10}\n", score.category,
                             score.loss(), score.perplexity(), score.labelled_tokens, score.records,
                             score.records_without_label);
    };
    for (const CategoryScore& score : evaluation.categories) line(score);
    line(evaluation.all);
    return table;
}

}  // namespace fedit
