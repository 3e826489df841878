// train/local_trainer.cpp: a client's optimizer steps, one after the other, until done or stopped.
#include "fedit/train/local_trainer.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"
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

/// A size that no micro-batch of these records exceeds, in whatever order they come.
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

void check_job(const TrainJob& job, const Layout& layout, const Progress* resume) {
    const std::vector<float>& x = resume != nullptr ? resume->x : job.start;
    if (static_cast<std::int64_t>(x.size()) == layout.size) return;
    throw ShapeError({.what = "an adapter does not fit the layout it is trained in",
                      .where = fmt::format("client {}, round {}: {} values, layout of {}",
                                           job.client, job.round, x.size(), layout.size),
                      .remedy = "start from an adapter of the same rank and target modules"});
}

/// One client's training in one round.
class ClientRun {
public:
    ClientRun(Decoder& decoder, Backend& backend, const LocalConfig& config, const TrainJob& job,
              const EncodedRecords& records, const Progress* resume)
        : decoder_(decoder),
          config_(config),
          job_(job),
          records_(records),
          total_steps_(planned_steps(records, config)),
          adapter_(backend, config, resume != nullptr ? resume->x : job.start,
                   resume != nullptr ? resume->optimizer : job.optimizer) {
        if (resume != nullptr) {
            step_ = resume->step;
            stats_ = resume->stats;
        }
        stats_.records = records.records_with_target();
        decoder_.load(adapter_.x());
    }

    bool finished() const { return step_ >= total_steps_; }

    /// One batch: its micro-batches' gradients, then the optimizer.
    void step() {
        const auto start = std::chrono::steady_clock::now();
        const std::span<const std::int64_t> batch = records_of_step();
        adapter_.clear_gradient();
        const double loss = accumulate_gradients(batch);
        const double norm = adapter_.gradient_norm();
        require_finite("loss", loss);
        require_finite("gradient norm", norm);
        adapter_.step(learning_rate(), norm);
        decoder_.load(adapter_.x());

        if (step_ == 0) stats_.loss_first = loss;
        stats_.loss_last = loss;
        stats_.loss_sum += loss;
        stats_.gradient_norm = norm;
        ++stats_.steps;
        ++step_;
        const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
        stats_.seconds += passed.count();
    }

    const TrainStats& stats() const { return stats_; }
    Progress progress() const {
        return {adapter_.download_x(), adapter_.download_state(), step_, stats_};
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

    double accumulate_gradients(std::span<const std::int64_t> batch) {
        std::int64_t targets = 0;
        for (const std::int64_t record : batch) {
            targets += records_.targets[static_cast<std::size_t>(record)];
        }
        const AdapterSlot slot{.x = adapter_.x(),
                               .gradient = adapter_.gradient(),
                               .dropout = config_.lora_dropout,
                               .dropout_key = dropout_key()};
        const auto micro = static_cast<std::size_t>(config_.micro_batch_size);
        std::int64_t tokens = 0;
        double loss = 0;
        for (std::size_t first = 0; first < batch.size(); first += micro) {
            const auto part = batch.subspan(first, std::min(micro, batch.size() - first));
            const PackedBatch packed = pack(records_, part, tokens, targets);
            losses_.resize(packed.targets.size());
            decoder_.train(packed, {&slot, 1}, losses_);
            loss = std::accumulate(losses_.begin(), losses_.end(), loss);
            tokens += packed.rows();
        }
        stats_.tokens += tokens;
        stats_.labelled += targets;
        return loss / static_cast<double>(targets);
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

    void require_finite(const char* what, double value) const {
        if (std::isfinite(value)) return;
        throw DivergedError({.what = fmt::format("the {} is {}", what, value),
                             .where = fmt::format("client {}, round {}, step {} (learning rate {})",
                                                  job_.client, job_.round, step_, learning_rate()),
                             .remedy = "lower --learning-rate, or clip with --max-grad-norm"});
    }

    Decoder& decoder_;
    const LocalConfig& config_;
    const TrainJob& job_;
    const EncodedRecords& records_;
    std::int64_t total_steps_;
    AdapterInTraining adapter_;
    std::int64_t step_ = 0;
    TrainStats stats_;
    int epoch_ = -1;
    std::vector<std::int64_t> order_;
    std::vector<double> losses_;
};

}  // namespace

std::int64_t planned_steps(const EncodedRecords& records, const LocalConfig& config) {
    const std::int64_t batches = batches_an_epoch(records, config);
    if (batches == 0) return 0;
    return config.steps > 0 ? config.steps : config.epochs * batches;
}

LocalTrainer::LocalTrainer(Decoder& decoder, const Layout& layout, Backend& backend,
                           const LocalConfig& config)
    : decoder_(decoder), layout_(layout), backend_(backend), config_(config) {}

std::size_t LocalTrainer::peak_bytes(const EncodedRecords& records) const {
    const std::size_t vectors = config_.optimizer == OptimizerKind::adamw ? 4 : 2;
    return vectors * static_cast<std::size_t>(layout_.size) * sizeof(float) +
           decoder_.activation_bytes(largest_pass(records, config_), Pass::train);
}

TrainOutcome LocalTrainer::train(const TrainJob& job, const EncodedRecords& records,
                                 const Progress* resume, const StopToken& stop,
                                 const std::function<void(const TrainStats&)>& progress) {
    check_job(job, layout_, resume);
    decoder_.reserve(largest_pass(records, config_), Pass::train);
    ClientRun run(decoder_, backend_, config_, job, records, resume);
    while (!run.finished() && !stop.requested()) {
        run.step();
        if (progress) progress(run.stats());
    }
    return {run.finished(), run.progress()};
}

}  // namespace fedit
