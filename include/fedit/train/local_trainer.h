// train/local_trainer.h: trains one client's adapter on its records.
#pragma once

#include <cstddef>
#include <functional>

#include "fedit/core/error.h"
#include "fedit/core/signal.h"
#include "fedit/model/decoder.h"
#include "fedit/text/dataset.h"
#include "fedit/train/job.h"

namespace fedit {

/// What train() returns: a finished client, or one stopped between two optimizer steps.
struct TrainOutcome {
    bool finished = false;
    Progress state;
};

/// A client's loss or gradient stopped being finite; other clients are not affected.
class DivergedError : public RunError {
public:
    using RunError::RunError;
};

/// Optimizer steps of one client in one round: config.steps, or epochs times the batches of an
/// epoch (the last, smaller batch counts). 0 for a client without a record that has a target.
std::int64_t planned_steps(const EncodedRecords& records, const LocalConfig& config);

class LocalTrainer {
public:
    /// All must outlive the trainer.
    LocalTrainer(Decoder& decoder, const Layout& layout, Backend& backend,
                 const LocalConfig& config);

    /// Bytes that training on these records takes besides the base: activations of the largest
    /// micro-batch, adapter, gradient, optimizer.
    std::size_t peak_bytes(const EncodedRecords& records) const;

    /// Trains from `job.start`, or from `resume` if not null (bit for bit as if never stopped).
    /// `progress` is called after each optimizer step. Throws DivergedError naming client, round
    /// and step if a loss is not finite.
    TrainOutcome train(const TrainJob& job, const EncodedRecords& records, const Progress* resume,
                       const StopToken& stop,
                       const std::function<void(const TrainStats&)>& progress);

private:
    Decoder& decoder_;
    const Layout& layout_;
    Backend& backend_;
    LocalConfig config_;
};

/// Losses and hits of records, in fixed batches by record order.
struct EvaluationSums {
    std::vector<double> loss;           ///< sum of cross-entropies of each record
    std::vector<std::int64_t> targets;  ///< labelled targets of each record
    std::vector<std::int64_t> hits;  ///< targets that have the largest logit (the lowest of ties)
};
/// A size that no pass of evaluate_records() with these arguments exceeds.
PassSize largest_evaluation_pass(const EncodedRecords& records, std::int64_t first,
                                 std::int64_t last, int batch_size);
/// Evaluates records [first, last) with `x` (empty: base alone), `batch_size` records a pass. A
/// batch begins at each multiple of `batch_size`: ranks that split the records there compute the
/// same bits as one rank alone. Records without a target cost nothing. The host waits for the back
/// end once a pass.
EvaluationSums evaluate_records(Decoder& decoder, Backend& backend, const EncodedRecords& records,
                                std::int64_t first, std::int64_t last, std::span<const float> x,
                                int batch_size);

}  // namespace fedit
