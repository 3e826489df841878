// experiment/evaluation.cpp: deals record blocks to ranks and adds per-record scores in record
// order.
#include "fedit/experiment/evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "fedit/core/error.h"

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

void add_record(CategoryScore& sum, const RecordScore& record) {
    sum.loss_sum += record.loss;
    sum.labelled_tokens += record.targets;
    sum.hits += record.hits;
    sum.records += 1;
    sum.records_without_label += record.targets == 0 ? 1 : 0;
    if (record.rouge) {
        sum.answers += 1;
        sum.rouge_sum.rouge1 += record.rouge->rouge1;
        sum.rouge_sum.rouge2 += record.rouge->rouge2;
        sum.rouge_sum.rougeL += record.rouge->rougeL;
        sum.rouge_sum.rougeLsum += record.rouge->rougeLsum;
    }
    if (record.choice) {
        sum.choice_records += 1;
        sum.choices_right += record.choice->right ? 1 : 0;
        sum.choices_right_per_token += record.choice->right_per_token ? 1 : 0;
    }
}

double ratio(double sum, std::int64_t count) {
    return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(count);
}

/// The text that a record's answer is compared with.
std::string response_of(const Record& record, const Tokenizer& tokenizer) {
    if (!record.tokenised()) return record.response;
    std::vector<std::int32_t> labels = record.labels;
    std::erase_if(labels, [](std::int32_t id) { return id < 0; });
    return tokenizer.decode(labels);
}

}  // namespace

double CategoryScore::loss() const {
    return ratio(loss_sum, labelled_tokens);
}

double CategoryScore::perplexity() const {
    return std::exp(loss());
}

double CategoryScore::token_accuracy() const {
    return ratio(static_cast<double>(hits), labelled_tokens);
}

Rouge CategoryScore::rouge() const {
    return {ratio(rouge_sum.rouge1, answers), ratio(rouge_sum.rouge2, answers),
            ratio(rouge_sum.rougeL, answers), ratio(rouge_sum.rougeLsum, answers)};
}

double CategoryScore::choice_accuracy() const {
    return ratio(static_cast<double>(choices_right), choice_records);
}

double CategoryScore::choice_accuracy_per_token() const {
    return ratio(static_cast<double>(choices_right_per_token), choice_records);
}

std::vector<RecordScore> score_records(const Communicator& comm, Decoder& decoder, Backend& backend,
                                       const EncodedRecords& records, std::span<const float> x,
                                       int batch_size) {
    const std::vector<Range> ranges = deal_blocks(records, batch_size, comm.size());
    const Range mine = ranges[static_cast<std::size_t>(comm.rank())];
    EvaluationSums sums;
    comm.together("evaluate", [&] {
        if (mine.first < mine.last) {
            sums =
                evaluate_records(decoder, backend, records, mine.first, mine.last, x, batch_size);
        }
    });
    ByteWriter message;
    message.put_all(std::span<const double>(sums.loss));
    message.put_all(std::span<const std::int64_t>(sums.hits));

    std::vector<RecordScore> scores;
    for (const Bytes& part : comm.all_gather(message.take())) {
        ByteReader reader(part);
        const auto losses = reader.get_all<double>();
        const auto hits = reader.get_all<std::int64_t>();
        for (std::size_t i = 0; i < losses.size(); ++i) {
            const std::int64_t targets = records.targets[scores.size()];
            scores.push_back({.loss = losses[i], .targets = targets, .hits = hits[i]});
        }
    }
    return scores;
}

Evaluation summarise(std::span<const RecordScore> scores, const EncodedRecords& records) {
    Evaluation evaluation;
    evaluation.all.category = "all";
    std::map<std::string, CategoryScore> by_name;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        add_record(evaluation.all, scores[i]);
        const std::string& name = records.categories[static_cast<std::size_t>(records.category[i])];
        if (name.empty()) continue;
        CategoryScore& score = by_name[name];
        score.category = name;
        add_record(score, scores[i]);
    }
    for (auto& [name, score] : by_name) evaluation.categories.push_back(std::move(score));
    return evaluation;
}

Evaluation evaluate(const Communicator& comm, Decoder& decoder, Backend& backend,
                    const EncodedRecords& records, std::span<const float> x, int batch_size) {
    return summarise(score_records(comm, decoder, backend, records, x, batch_size), records);
}

void score_answers(const Communicator& comm, Generator& generator, const ModelConfig& model,
                   const Tokenizer* tokenizer, const PromptTemplate& prompt,
                   std::span<const Record> records, int batch_size,
                   std::vector<RecordScore>& scores) {
    if (tokenizer == nullptr) {
        throw InputError({.what = "answers cannot be compared without a tokenizer",
                          .where = "--generate",
                          .remedy = "give --tokenizer FOLDER"});
    }
    std::vector<Prompt> prompts;
    for (std::size_t i = 0; i < records.size(); ++i) {
        Prompt each{prompt_ids(records[i], tokenizer, prompt), static_cast<std::uint32_t>(i)};
        if (is_answerable(each, model)) prompts.push_back(std::move(each));
    }
    const std::vector<Answer> answers = generator.answer(comm, prompts, batch_size);
    for (std::size_t i = 0; i < answers.size(); ++i) {
        const std::size_t record = prompts[i].record;
        scores[record].rouge = rouge(response_of(records[record], *tokenizer), answers[i].text);
    }
}

EncodedChoices encode_choices(std::span<const Record> records, const Tokenizer* tokenizer,
                              const PromptTemplate& prompt, const EncodeOptions& options,
                              std::int64_t vocab_size) {
    EncodeOptions whole = options;
    whole.cutoff_len = std::numeric_limits<int>::max();
    whole.train_on_inputs = false;
    EncodedChoices result;
    std::vector<Record> responses;
    for (std::size_t i = 0; i < records.size(); ++i) {
        const Record& record = records[i];
        std::vector<Record> group;
        for (const std::string& choice : record.choices) {
            group.push_back({.instruction = record.instruction,
                             .input = record.input,
                             .response = choice,
                             .category = "",
                             .choices = {},
                             .answer = 0,
                             .input_ids = {},
                             .labels = {}});
        }
        if (group.empty()) continue;
        const EncodedRecords encoded = encode_records(group, tokenizer, prompt, whole, vocab_size);
        const bool without_target = encoded.records_with_target() < encoded.size();
        if (encoded.longest() > options.cutoff_len || without_target) continue;
        result.groups.push_back({i, record.answer, static_cast<std::int64_t>(responses.size()),
                                 static_cast<std::int64_t>(group.size())});
        responses.insert(responses.end(), group.begin(), group.end());
    }
    result.choices = encode_records(responses, tokenizer, prompt, whole, vocab_size);
    return result;
}

void score_choices(const Communicator& comm, Decoder& decoder, Backend& backend,
                   const EncodedChoices& choices, std::span<const float> x, int batch_size,
                   std::vector<RecordScore>& scores) {
    const std::vector<RecordScore> each =
        score_records(comm, decoder, backend, choices.choices, x, batch_size);
    for (const EncodedChoices::Group& group : choices.groups) {
        const auto first = each.begin() + group.first, last = first + group.count;
        const auto right = first + static_cast<std::ptrdiff_t>(group.answer);
        const auto smallest = [&](const auto& loss_of) {
            return std::min_element(first, last, [&](const RecordScore& a, const RecordScore& b) {
                return loss_of(a) < loss_of(b);
            });
        };
        const auto sum = [](const RecordScore& score) { return score.loss; };
        const auto mean = [](const RecordScore& score) {
            return score.loss / static_cast<double>(score.targets);
        };
        scores[group.record].choice = {.right = smallest(sum) == right,
                                       .right_per_token = smallest(mean) == right};
    }
}

}  // namespace fedit
