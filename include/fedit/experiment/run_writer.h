// experiment/run_writer.h: what rank 0 writes after a round, in the order that makes a kill
// harmless: log, adapter, checkpoint. The checkpoint is the commit.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "fedit/core/log.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/experiment/local_clients.h"

namespace fedit {

/// Used by rank 0 alone.
class RunWriter {
public:
    struct Policy {
        std::int64_t checkpoint_every = 1, keep_last = 3;
        std::string base_model;  ///< its folder, which an adapter names and a model starts from
        const LocalClients* local_clients = nullptr;  ///< each has a result; null: one of all
    };
    RunWriter(AtomicFile files, RunFolder folder, Policy policy, Log log)
        : files_(std::move(files)),
          folder_(std::move(folder)),
          policy_(std::move(policy)),
          log_(std::move(log)) {}

    /// config.ini and the first run.h5 of this life. Throws IoError.
    void begin(const RunLog& log);

    /// After a round. Where a checkpoint is due (or `last`): all three. A write that fails (a full
    /// disk) is a warning and is tried again after the next round; it throws IoError after
    /// checkpoint_every failures in a row, or if `last`.
    enum class Moment { between, last };
    void after_round(const Checkpoint& state, Moment moment);

    /// run.h5 alone, for the end of a life. Throws IoError.
    void write_log(const RunLog& log);

    std::int64_t committed() const {
        return committed_;
    }  ///< rounds in the newest checkpoint; -1: none
    void set_committed(std::int64_t rounds_done) { committed_ = rounds_done; }

private:
    using Clock = std::chrono::steady_clock;
    void commit(const Checkpoint& state);
    void write_results(const Checkpoint& state) const;
    void write_result(const Checkpoint& state, std::span<const float> x,
                      const std::filesystem::path& folder) const;
    void write_log_throttled(const RunLog& log);

    AtomicFile files_;
    RunFolder folder_;
    Policy policy_;
    Log log_;
    std::int64_t committed_ = -1;
    std::int64_t failures_ = 0;
    Clock::time_point last_log_ = Clock::now();
    double last_log_seconds_ = 0;
};

}  // namespace fedit
