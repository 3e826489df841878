// experiment/evaluation.h: loss, token accuracy, ROUGE and multiple choice on held-out records, by
// category, the same bits on any number of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/experiment/generation.h"
#include "fedit/text/rouge.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// Which choice has the largest log-likelihood, and which the largest per token.
struct ChoicePick {
    bool right = false, right_per_token = false;
};

/// What was measured on one record.
struct RecordScore {
    double loss = 0;               ///< sum of cross-entropies of its targets
    std::int64_t targets = 0;      ///< labelled targets
    std::int64_t hits = 0;         ///< targets that have the largest logit
    std::optional<Rouge> rouge{};  ///< of a generated answer
    std::optional<ChoicePick> choice{};
};

/// Sums over the records of one category. Ratios are NaN where nothing was counted.
struct CategoryScore {
    std::string category;
    double loss_sum = 0;
    std::int64_t labelled_tokens = 0, records = 0, records_without_label = 0, hits = 0;
    std::int64_t answers = 0;  ///< generated
    Rouge rouge_sum{};
    std::int64_t choice_records = 0, choices_right = 0, choices_right_per_token = 0;

    double loss() const;            ///< sum of cross-entropies / labelled targets
    double perplexity() const;      ///< exp(loss)
    double token_accuracy() const;  ///< hits / labelled targets
    Rouge rouge() const;            ///< means over the answers
    double choice_accuracy() const;
    double choice_accuracy_per_token() const;
};

struct Evaluation {
    CategoryScore all;                      ///< category "all"
    std::vector<CategoryScore> categories;  ///< sorted by name; empty if no record has one
};

/// Collective. Losses and hits of each record, on all ranks. Records are dealt in blocks of
/// `batch_size` in record order. `x` empty: the base alone.
std::vector<RecordScore> score_records(const Communicator& comm, Decoder& decoder, Backend& backend,
                                       const EncodedRecords& records, std::span<const float> x,
                                       int batch_size);

/// Sums in record order. `records` gives the categories, in the order of `scores`.
Evaluation summarise(std::span<const RecordScore> scores, const EncodedRecords& records);

/// Collective: the two together.
Evaluation evaluate(const Communicator& comm, Decoder& decoder, Backend& backend,
                    const EncodedRecords& records, std::span<const float> x, int batch_size);

/// Collective. Generates an answer to each record whose prompt can be answered, and scores it
/// against the record's response; a tokenised record's response is the text of its labels. Throws
/// InputError without a tokenizer.
void score_answers(const Communicator& comm, Generator& generator, const ModelConfig& model,
                   const Tokenizer* tokenizer, const PromptTemplate& prompt,
                   std::span<const Record> records, int batch_size,
                   std::vector<RecordScore>& scores);

/// The choices of all multiple-choice records, each encoded as its record's response, with EOS. A
/// record with a choice that the cutoff would cut is left out.
struct EncodedChoices {
    struct Group {
        std::size_t record, answer;
        std::int64_t first, count;  ///< choices in `choices`
    };
    std::vector<Group> groups;
    EncodedRecords choices;
};
EncodedChoices encode_choices(std::span<const Record> records, const Tokenizer* tokenizer,
                              const PromptTemplate& prompt, const EncodeOptions& options,
                              std::int64_t vocab_size);

/// Collective. Ranks each record's choices by log-likelihood; of equals the first counts.
void score_choices(const Communicator& comm, Decoder& decoder, Backend& backend,
                   const EncodedChoices& choices, std::span<const float> x, int batch_size,
                   std::vector<RecordScore>& scores);

/// A model's name and what it reached.
struct NamedEvaluation {
    std::string model;
    Evaluation evaluation;
};

/// {"loss", "perplexity", "labelled_tokens", "records", "records_without_label", "token_accuracy",
/// "by_category"}, and where measured "answers", "rouge1", "rouge2", "rougeL", "rougeLsum",
/// "choice_records", "choice_accuracy", "choice_accuracy_per_token".
std::string to_json(const Evaluation& evaluation);
/// {"models": [{"model", and the above}, ...]}.
std::string to_json(std::span<const NamedEvaluation> models);
/// A table for people.
std::string to_table(const Evaluation& evaluation);
/// One table of all models side by side: a line a category and measure, a column a model.
std::string to_table(std::span<const NamedEvaluation> models);

}  // namespace fedit
