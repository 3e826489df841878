// train/job.h: what one client's local training is asked to do, and what comes out.
#pragma once

#include <cstdint>
#include <vector>

#include "fedit/train/schedule.h"

namespace fedit {

enum class OptimizerKind : std::uint8_t { adamw, sgd };
enum class LrScope : std::uint8_t { round, run };

/// Local training's settings; the same for all clients.
struct LocalConfig {
    int epochs = 1;
    std::int64_t steps = 0;  ///< > 0: exactly this many optimizer steps instead of epochs
    int batch_size = 32;     ///< records an optimizer step
    int micro_batch_size = 8;
    OptimizerKind optimizer = OptimizerKind::adamw;
    Schedule schedule{};
    LrScope lr_scope = LrScope::round;  ///< run: the decay spans all rounds
    int rounds = 1;                     ///< rounds of the run, for LrScope::run
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    double weight_decay = 0;
    double max_grad_norm = 0;  ///< 0: no clipping
    double lora_dropout = 0;
    std::uint64_t seed = 0;
    /// Whether clients that have ended give back their optimizer's moments; others always do.
    bool keep_moments = true;
};

/// Moments of AdamW (empty for SGD) and the number of steps they have seen.
struct OptimizerState {
    std::vector<float> m{}, v{};
    std::int64_t step = 0;
};

struct TrainStats {
    std::int64_t records = 0;          ///< records with a target
    std::int64_t tokens = 0;           ///< tokens passed, all steps
    std::int64_t labelled = 0;         ///< targets passed, all steps
    std::int64_t steps = 0;            ///< optimizer steps done
    std::int64_t skipped_batches = 0;  ///< batches without a target: none, such records never train
    double loss_first = 0, loss_last = 0;  ///< mean loss of the first and last step's batch
    double loss_sum = 0;                   ///< over steps of the batch's mean loss
    double gradient_norm = 0;              ///< of the last step, before clipping
    double seconds = 0;
};

/// One client in one round.
struct TrainJob {
    int client = 0;
    int round = 0;
    std::vector<float> start{};  ///< the adapter to start from
    /// The same in back-end memory: copied there if not null, and `start` is not looked at.
    const float* start_in_backend = nullptr;
    OptimizerState optimizer{};  ///< empty: fresh
};

/// All that a client in training is: streams are counters and need no state.
struct Progress {
    std::vector<float> x;
    OptimizerState optimizer;
    std::int64_t step = 0;  ///< optimizer steps taken in this round
    TrainStats stats;
};

}  // namespace fedit
