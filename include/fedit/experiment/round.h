// experiment/round.h: one federated round: place cohorts, train them, sum their updates, step.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fedit/comm/device_sum.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/experiment/client_store.h"
#include "fedit/experiment/experiment.h"
#include "fedit/experiment/federated_data.h"
#include "fedit/experiment/local_clients.h"
#include "fedit/federation/aggregate.h"
#include "fedit/federation/plan.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

/// Watches what can ask for a stop besides a signal: the time limit and the stop file.
class StopWatch {
public:
    /// `max_minutes` 0: no limit.
    StopWatch(StopToken token, double max_minutes, std::filesystem::path stop_file);
    /// Looks at most once a second; sets the token.
    void poll();
    const StopToken& token() const { return token_; }
    double seconds() const;  ///< since the start of this life

private:
    using Clock = std::chrono::steady_clock;
    StopToken token_;
    double max_seconds_;
    std::filesystem::path stop_file_;
    Clock::time_point start_ = Clock::now();
    Clock::time_point next_ = start_;
};

/// What --reduce asks for.
SumChoice sum_choice(const Config& config);

/// All ranks throw RunError if the checksums of their copies of the global adapter differ.
/// Collective. `where`: for the message.
void require_same_adapter(const Communicator& comm, std::uint64_t checksum,
                          const std::string& where);

/// The log rows of a finished round, the same on every rank.
struct RoundResult {
    RoundRow row;
    std::vector<ClientRow> clients;  ///< ascending by client
};

/// Runs rounds. All ranks hold one and call it together.
class RoundRunner {
public:
    /// Collective. All must outlive the runner. `local_clients` not null: --mode local.
    RoundRunner(const Context& context, const Config& config, const FederatedData& data,
                const Layout& layout, LocalTrainer& trainer, Backend& backend, StopWatch& watch,
                const RunFolder& folder, const LocalClients* local_clients);

    /// Trains the plan's clients from `x` and moves `x`; in local training each goes on with what
    /// it has, and `x` stays. Nothing if a stop left clients unfinished: they are saved. `tag`
    /// names identity and state. Collective; all ranks throw if one fails, or if their states
    /// differ afterwards.
    std::optional<RoundResult> run(const RoundPlan& plan, std::vector<float>& x,
                                   const std::string& tag);

private:
    struct Local;
    std::vector<std::size_t> my_cohorts(const RoundPlan& plan, const ClientStore& store) const;
    void train_mine(const RoundPlan& plan, const std::vector<float>& x, const ClientStore& store,
                    Local& local);
    std::vector<TrainOutcome> train_cohort(const RoundPlan& plan, std::span<const int> clients,
                                           std::span<const std::vector<float>* const> starts,
                                           const ClientStore& store, const Local& local);
    StepCallback show_progress(const RoundPlan& plan, const Local& local,
                               std::span<const CohortMember> members);
    void contribute(const PlannedClient& who, const std::vector<float>& start,
                    TrainOutcome& outcome, Local& local);
    void save_finished(const RoundPlan& plan, const ClientStore& store, Local& local);
    void place_start(const std::vector<float>& x);
    void reject(const PlannedClient& who, const std::string& reason, Local& local);
    RoundResult aggregate(const RoundPlan& plan, std::vector<float>& x, Local& local);
    RoundResult gather_rows(const RoundPlan& plan, const Local& local) const;
    double planned_tokens(int client) const;
    double planned_tokens(std::span<const int> clients) const;

    const Context& context_;
    const Config& config_;
    const FederatedData& data_;
    const Layout& layout_;
    LocalTrainer& trainer_;
    Backend& backend_;
    OrderFreeSum sum_;    ///< of this rank's clients of a round
    DeviceBuffer start_;  ///< the global adapter, where the host's memory is not the back end's
    const float* start_in_backend_ = nullptr;  ///< the same; null in local training
    DeviceSum rank_sum_;
    StopWatch& watch_;
    const RunFolder& folder_;
    const LocalClients* local_clients_;
    LocalConfig local_config_;
    ProgressLine progress_;
};

}  // namespace fedit
