// experiment/evaluation.h: loss and perplexity on held-out records, by category, the same bits on
// any number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// Sums over the records of one category. loss = sum of cross-entropies / labelled targets.
struct CategoryScore {
    std::string category;
    double loss_sum = 0;
    std::int64_t labelled_tokens = 0, records = 0, records_without_label = 0;
    double loss() const;        ///< NaN without targets
    double perplexity() const;  ///< exp(loss)
};

struct Evaluation {
    CategoryScore all;                      ///< category "all"
    std::vector<CategoryScore> categories;  ///< sorted by name; empty if no record has one
};

/// Collective. Records are dealt in blocks of `batch_size` in record order; per-record sums are
/// gathered and added in record order. `x` empty: the base alone.
Evaluation evaluate(const Communicator& comm, Decoder& decoder, Backend& backend,
                    const EncodedRecords& records, std::span<const float> x, int batch_size);

/// {"loss", "perplexity", "labelled_tokens", "records", "records_without_label", "by_category"}.
std::string to_json(const Evaluation& evaluation);
/// A table for people.
std::string to_table(const Evaluation& evaluation);

}  // namespace fedit
