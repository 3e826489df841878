// train/local_trainer.h: trains the adapters of a cohort, each client's on its own records.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fedit/core/signal.h"
#include "fedit/model/decoder.h"
#include "fedit/text/dataset.h"
#include "fedit/train/job.h"

namespace fedit {

/// How a client's local training ended.
enum class TrainEnd : std::uint8_t {
    stopped,   ///< between two optimizer steps; goes on from its state
    finished,  ///< all steps taken
    diverged,  ///< its loss, its gradient or what it sends is not finite, or out of bounds
};

/// What train() returns for each client.
struct TrainOutcome {
    TrainEnd end = TrainEnd::stopped;
    Progress state{};
    std::string fault{};  ///< of a diverged client: client, round, step and value
    /// state.x in back-end memory, until the trainer trains others; null: not there.
    const float* x_in_backend = nullptr;
};

/// One client of a cohort, a set of clients whose tokens pass through the base together.
struct CohortMember {
    TrainJob job;
    const EncodedRecords* records = nullptr;
    const Progress* resume = nullptr;  ///< go on from there, not from job.start, unless null
};

/// Called after each optimizer step of a member, with the member's place in the cohort.
using StepCallback = std::function<void(std::size_t member, const TrainStats& stats)>;

/// Optimizer steps of one client in one round: config.steps, or epochs times the batches of an
/// epoch (the last, smaller batch counts). 0 for a client without a record that has a target.
std::int64_t planned_steps(const EncodedRecords& records, const LocalConfig& config);

/// A size that no micro-batch of these records exceeds, in whatever order they come.
PassSize largest_pass(const EncodedRecords& records, const LocalConfig& config);

/// What a client in training takes of a back end's memory.
struct AdapterMemory {
    AdapterMemory(Backend& backend, std::size_t floats, OptimizerKind optimizer);

    DeviceBuffer x, gradient;
    DeviceBuffer m, v;  ///< AdamW's
};

class LocalTrainer {
public:
    /// All must outlive the trainer.
    LocalTrainer(Decoder& decoder, const Layout& layout, Backend& backend,
                 const LocalConfig& config);

    /// Bytes that training a cohort takes besides the base, given each member's largest pass:
    /// activations, and of each member adapter, gradient and optimizer.
    std::size_t peak_bytes(std::span<const PassSize> members) const;
    /// Those of them that stay with the trainer, for the next cohort: all but the activations.
    std::size_t kept_bytes(std::size_t members) const;

    /// Trains all members side by side; one outcome each. Pass i packs micro-batch i of each
    /// member's current batch, then each member takes its optimizer step; one that is done or has
    /// diverged leaves the passes. Order, batches, dropout, schedule, optimizer and statistics are
    /// a member's own. So are its bits where the back end's products do not depend on the number of
    /// rows; elsewhere they are those of this cohort, stopped and resumed together or not. The
    /// seconds of a step are shared by tokens. Throws ShapeError if an adapter does not fit the
    /// layout, or if several members would train the base itself.
    std::vector<TrainOutcome> train(std::span<const CohortMember> members, const StopToken& stop,
                                    const StepCallback& after_step = {});

    /// Takes a vector whose values nobody needs any more; the next outcome is written over it.
    /// Fresh memory of that size would cost more than training a small client on a GPU.
    void recycle(std::vector<float> used);

private:
    Decoder& decoder_;
    const Layout& layout_;
    Backend& backend_;
    LocalConfig config_;
    std::vector<AdapterMemory> memory_;  ///< of the largest cohort so far
    std::vector<std::vector<float>> recycled_;
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
