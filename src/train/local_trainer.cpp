// train/local_trainer.cpp: the optimizer steps of a cohort, until all are done or a stop is asked.
#include "fedit/train/local_trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"
#include "fedit/model/dense.h"
#include "fedit/train/batch.h"
#include "train/optimizer.h"

namespace fedit {

namespace {

std::int64_t batches_an_epoch(const EncodedRecords& records, const LocalConfig& config) {
    return (records.records_with_target() + config.batch_size - 1) / config.batch_size;
}

/// Sum of the `count` largest values.
std::int64_t sum_of_largest(std::vector<std::int64_t> values, int count) {
    const auto kept = std::min(values.size(), static_cast<std::size_t>(count));
    std::partial_sort(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(kept),
                      values.end(), std::greater<>());
    return std::accumulate(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(kept),
                           std::int64_t{0});
}

PassSize sum(std::span<const PassSize> members) {
    PassSize all;
    for (const PassSize& member : members) {
        all.rows += member.rows;
        all.target_rows += member.target_rows;
    }
    return all;
}

void check_cohort(std::span<const CohortMember> members, const Layout& layout) {
    if (members.size() > 1 && is_dense(layout)) {
        throw ShapeError({.what = "clients that train the base itself cannot share it",
                          .where = fmt::format("a cohort of {}", members.size()),
                          .remedy = "train them one after the other"});
    }
    for (const CohortMember& member : members) {
        const TrainJob& job = member.job;
        if (member.resume == nullptr && job.start_in_backend != nullptr) continue;
        const std::vector<float>& x = member.resume != nullptr ? member.resume->x : job.start;
        if (static_cast<std::int64_t>(x.size()) == layout.size) continue;
        throw ShapeError({.what = "an adapter does not fit the layout it is trained in",
                          .where = fmt::format("client {}, round {}: {} values, layout of {}",
                                               job.client, job.round, x.size(), layout.size),
                          .remedy = "start from an adapter of the same rank and target modules"});
    }
}

/// One client's training in one round.
class ClientRun {
public:
    ClientRun(Backend& backend, const LocalConfig& config, const CohortMember& member,
              AdapterMemory& memory, std::size_t size)
        : config_(config),
          job_(member.job),
          records_(*member.records),
          total_steps_(planned_steps(records_, config)),
          adapter_(backend, config, memory, size,
                   member.resume != nullptr ? member.resume->optimizer : job_.optimizer) {
        if (member.resume != nullptr) {
            step_ = member.resume->step;
            stats_ = member.resume->stats;
            adapter_.start_from(member.resume->x);
        } else if (job_.start_in_backend != nullptr) {
            adapter_.start_from_backend(job_.start_in_backend);
        } else {
            adapter_.start_from(job_.start);
        }
        stats_.records = records_.records_with_target();
    }

    bool trains() const { return fault_.empty() && step_ < total_steps_; }
    const float* x() const { return adapter_.x(); }

    void begin_batch() {
        batch_ = records_of_step();
        packed_ = 0;
        batch_tokens_ = batch_targets_ = 0;
        batch_loss_ = 0;
        for (const std::int64_t record : batch_) {
            batch_targets_ += records_.targets[static_cast<std::size_t>(record)];
        }
        adapter_.clear_gradient();
    }

    bool has_micro_batch() const { return packed_ < batch_.size(); }
    std::int64_t batch_tokens() const { return batch_tokens_; }

    /// Appends the next micro-batch as a slot, and the adapter that trains on it.
    void pack_micro_batch(PackedBatch& pass, std::vector<AdapterSlot>& slots) {
        const auto micro = static_cast<std::size_t>(config_.micro_batch_size);
        const auto which = batch_.subspan(packed_, std::min(micro, batch_.size() - packed_));
        first_target_ = pass.targets.size();
        append_slot(pass, records_, which, batch_tokens_, batch_targets_);
        end_target_ = pass.targets.size();
        for (const std::int64_t record : which) batch_tokens_ += records_.length(record);
        packed_ += which.size();
        slots.push_back({.x = adapter_.x(),
                         .gradient = adapter_.gradient(),
                         .dropout = config_.lora_dropout,
                         .dropout_key = dropout_key()});
    }

    /// Takes this client's part of the losses of the pass it was packed into.
    void add_losses(std::span<const double> losses) {
        const auto mine = losses.subspan(first_target_, end_target_ - first_target_);
        batch_loss_ = std::accumulate(mine.begin(), mine.end(), batch_loss_);
    }

    /// The optimizer's step; false if the client has diverged instead.
    bool end_batch() {
        stats_.tokens += batch_tokens_;
        stats_.labelled += batch_targets_;
        const double loss = batch_loss_ / static_cast<double>(batch_targets_);
        const double norm = adapter_.gradient_norm();
        if (!std::isfinite(loss)) return diverge("loss", loss);
        if (!std::isfinite(norm)) return diverge("gradient norm", norm);
        adapter_.step(learning_rate(), norm);

        if (step_ == 0) stats_.loss_first = loss;
        stats_.loss_last = loss;
        stats_.loss_sum += loss;
        stats_.gradient_norm = norm;
        ++stats_.steps;
        ++step_;
        return true;
    }

    void add_seconds(double seconds) { stats_.seconds += seconds; }
    const TrainStats& stats() const { return stats_; }

    /// `used`: memory for the adapter.
    TrainOutcome outcome(std::vector<float> used) const {
        TrainOutcome outcome{.fault = fault_, .x_in_backend = adapter_.x()};
        if (!fault_.empty()) {
            outcome.end = TrainEnd::diverged;
        } else {
            outcome.end = step_ < total_steps_ ? TrainEnd::stopped : TrainEnd::finished;
        }
        const bool moments = config_.keep_moments || outcome.end == TrainEnd::stopped;
        outcome.state = {
            .x = adapter_.download_x(std::move(used)),
            .optimizer = moments ? adapter_.download_state()
                                 : OptimizerState{.m = {}, .v = {}, .step = adapter_.steps()},
            .step = step_,
            .stats = stats_};
        return outcome;
    }

private:
    std::span<const std::int64_t> records_of_step() {
        const std::int64_t batches = batches_an_epoch(records_, config_);
        const auto epoch = static_cast<int>(step_ / batches);
        if (epoch != epoch_) {
            order_ = epoch_order(records_, config_.seed, job_.client, job_.round, epoch);
            epoch_ = epoch;
        }
        const auto size = static_cast<std::size_t>(config_.batch_size);
        const std::size_t first = static_cast<std::size_t>(step_ % batches) * size;
        return std::span(order_).subspan(first, std::min(size, order_.size() - first));
    }

    std::uint64_t dropout_key() const {
        return derive_key({.seed = config_.seed,
                           .purpose = Purpose::dropout,
                           .client = static_cast<std::uint32_t>(job_.client),
                           .round = static_cast<std::uint32_t>(job_.round),
                           .step = static_cast<std::uint32_t>(step_)});
    }

    double learning_rate() const {
        if (config_.lr_scope == LrScope::round) return config_.schedule.at(step_, total_steps_);
        return config_.schedule.at(job_.round * total_steps_ + step_,
                                   config_.rounds * total_steps_);
    }

    bool diverge(const char* what, double value) {
        fault_ = RunError({.what = fmt::format("the {} is {}", what, value),
                           .where = fmt::format("client {}, round {}, step {} (learning rate {})",
                                                job_.client, job_.round, step_, learning_rate()),
                           .remedy = "lower --learning-rate, or clip with --max-grad-norm"})
                     .what();
        return false;
    }

    const LocalConfig& config_;
    const TrainJob& job_;
    const EncodedRecords& records_;
    std::int64_t total_steps_;
    AdapterInTraining adapter_;
    std::int64_t step_ = 0;
    TrainStats stats_;
    std::string fault_;  ///< why the client has diverged
    int epoch_ = -1;
    std::vector<std::int64_t> order_;

    // Of the current batch.
    std::span<const std::int64_t> batch_;
    std::size_t packed_ = 0;  ///< records of it that have passed
    std::int64_t batch_tokens_ = 0, batch_targets_ = 0;
    double batch_loss_ = 0;
    std::size_t first_target_ = 0, end_target_ = 0;  ///< in the current pass
};

/// The passes of one batch of each client.
void pass_batches(Decoder& decoder, std::span<ClientRun* const> clients) {
    std::vector<double> losses;
    while (true) {
        PackedBatch pass;
        std::vector<AdapterSlot> slots;
        std::vector<ClientRun*> packed;
        for (ClientRun* client : clients) {
            if (!client->has_micro_batch()) continue;
            client->pack_micro_batch(pass, slots);
            packed.push_back(client);
        }
        if (packed.empty()) return;
        losses.resize(pass.targets.size());
        decoder.train(pass, slots, losses);
        for (ClientRun* client : packed) client->add_losses(losses);
    }
}

/// One optimizer step of every client that has one to take; false if none has.
bool step_together(Decoder& decoder, std::vector<ClientRun>& runs, const StepCallback& after_step) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<ClientRun*> active;
    for (ClientRun& run : runs) {
        if (!run.trains()) continue;
        run.begin_batch();
        active.push_back(&run);
    }
    if (active.empty()) return false;
    decoder.load(active.front()->x());
    pass_batches(decoder, active);

    std::int64_t tokens = 0;
    std::vector<ClientRun*> stepped;
    for (ClientRun* run : active) {
        tokens += run->batch_tokens();
        if (run->end_batch()) stepped.push_back(run);
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    for (ClientRun* run : active) {
        run->add_seconds(passed.count() * static_cast<double>(run->batch_tokens()) /
                         static_cast<double>(tokens));
    }
    if (!after_step) return true;
    for (const ClientRun* run : stepped) {
        after_step(static_cast<std::size_t>(run - runs.data()), run->stats());
    }
    return true;
}

}  // namespace

std::int64_t planned_steps(const EncodedRecords& records, const LocalConfig& config) {
    const std::int64_t batches = batches_an_epoch(records, config);
    if (batches == 0) return 0;
    return config.steps > 0 ? config.steps : config.epochs * batches;
}

PassSize largest_pass(const EncodedRecords& records, const LocalConfig& config) {
    std::vector<std::int64_t> lengths, targets;
    for (std::int64_t record = 0; record < records.size(); ++record) {
        const std::int64_t labelled = records.targets[static_cast<std::size_t>(record)];
        if (labelled == 0) continue;
        lengths.push_back(records.length(record));
        targets.push_back(labelled);
    }
    const int most = std::min(config.micro_batch_size, config.batch_size);
    return {sum_of_largest(std::move(lengths), most), sum_of_largest(std::move(targets), most)};
}

LocalTrainer::LocalTrainer(Decoder& decoder, const Layout& layout, Backend& backend,
                           const LocalConfig& config)
    : decoder_(decoder), layout_(layout), backend_(backend), config_(config) {}

std::size_t LocalTrainer::kept_bytes(std::size_t members) const {
    const std::size_t vectors = config_.optimizer == OptimizerKind::adamw ? 4 : 2;
    return members * vectors * static_cast<std::size_t>(layout_.size) * sizeof(float);
}

std::size_t LocalTrainer::peak_bytes(std::span<const PassSize> members) const {
    return kept_bytes(members.size()) + decoder_.activation_bytes(sum(members), Pass::train);
}

void LocalTrainer::recycle(std::vector<float> used) {
    recycled_.push_back(std::move(used));
}

std::vector<TrainOutcome> LocalTrainer::train(std::span<const CohortMember> members,
                                              const StopToken& stop,
                                              const StepCallback& after_step) {
    check_cohort(members, layout_);
    std::vector<PassSize> sizes;
    for (const CohortMember& member : members) {
        sizes.push_back(largest_pass(*member.records, config_));
    }
    decoder_.reserve(sum(sizes), Pass::train);
    const auto floats = static_cast<std::size_t>(layout_.size);
    while (memory_.size() < members.size())
        memory_.emplace_back(backend_, floats, config_.optimizer);
    std::vector<ClientRun> runs;
    runs.reserve(members.size());
    for (const CohortMember& member : members)
        runs.emplace_back(backend_, config_, member, memory_[runs.size()], floats);
    while (!stop.requested() && step_together(decoder_, runs, after_step)) {
    }
    std::vector<TrainOutcome> outcomes;
    for (const ClientRun& run : runs) {
        std::vector<float> used;
        if (!recycled_.empty()) {
            used = std::move(recycled_.back());
            recycled_.pop_back();
        }
        outcomes.push_back(run.outcome(std::move(used)));
    }
    return outcomes;
}

}  // namespace fedit
