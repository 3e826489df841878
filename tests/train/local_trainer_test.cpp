// tests/train/local_trainer_test.cpp: a client's steps: their number, their batches, stop and
// resume, and what its bits may not depend on.
#include "fedit/train/local_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "fedit/core/error.h"
#include "fedit/train/batch.h"
#include "tests/train/records.h"
#include "tests/train/tiny_training.h"

namespace fedit::test {
namespace {

/// Batches of 5 of 16 records that train, in micro-batches of 2, over 3 epochs: the last batch of
/// an epoch has one record.
LocalConfig ragged_config() {
    return {.epochs = 3,
            .batch_size = 5,
            .micro_batch_size = 2,
            .schedule = {.kind = LrScheduler::cosine, .learning_rate = 5e-3, .warmup_steps = 2},
            .weight_decay = 0.01,
            .max_grad_norm = 1,
            .lora_dropout = 0.1,
            .seed = 4};
}

void expect_same(const Progress& a, const Progress& b) {
    EXPECT_EQ(a.x, b.x);
    EXPECT_EQ(a.optimizer.m, b.optimizer.m);
    EXPECT_EQ(a.optimizer.v, b.optimizer.v);
    EXPECT_EQ(a.optimizer.step, b.optimizer.step);
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.stats.tokens, b.stats.tokens);
    EXPECT_EQ(a.stats.labelled, b.stats.labelled);
    EXPECT_EQ(a.stats.steps, b.stats.steps);
    EXPECT_EQ(a.stats.loss_first, b.stats.loss_first);
    EXPECT_EQ(a.stats.loss_last, b.stats.loss_last);
    EXPECT_EQ(a.stats.loss_sum, b.stats.loss_sum);
}

TEST(LocalTrainer, StepsAreTheBatchesOfAllEpochsOrAsManyAsAsked) {
    const EncodedRecords records = random_records(20, 1);  // 16 of them have a target
    EXPECT_EQ(planned_steps(records, ragged_config()), 3 * 4);
    LocalConfig config = ragged_config();
    config.steps = 7;
    EXPECT_EQ(planned_steps(records, config), 7);
    EXPECT_EQ(planned_steps(EncodedRecords{}, config), 0);
    config.batch_size = 16;
    config.steps = 0;
    EXPECT_EQ(planned_steps(records, config), 3);
}

TEST(LocalTrainer, CountsWhatItTrainedOn) {
    TinyTraining tiny("counts");
    const EncodedRecords records = random_records(20, 1);
    std::int64_t tokens = 0, targets = 0;
    for (std::int64_t r = 0; r < records.size(); ++r) {
        if (records.targets[static_cast<std::size_t>(r)] == 0) continue;
        tokens += records.length(r);
        targets += records.targets[static_cast<std::size_t>(r)];
    }
    std::vector<std::int64_t> reported;
    const TrainOutcome outcome =
        tiny.train(ragged_config(), records, {}, nullptr, {},
                   [&](const TrainStats& stats) { reported.push_back(stats.steps); });
    EXPECT_EQ(outcome.end, TrainEnd::finished);
    const TrainStats& stats = outcome.state.stats;
    EXPECT_EQ(stats.records, 16);
    EXPECT_EQ(stats.tokens, 3 * tokens);
    EXPECT_EQ(stats.labelled, 3 * targets);
    EXPECT_EQ(stats.steps, 12);
    EXPECT_EQ(outcome.state.step, 12);
    EXPECT_EQ(outcome.state.optimizer.step, 12);
    EXPECT_GT(stats.gradient_norm, 0);
    std::vector<std::int64_t> want(12);
    std::iota(want.begin(), want.end(), 1);
    EXPECT_EQ(reported, want);
}

TEST(LocalTrainer, LearnsTheRecords) {
    TinyTraining tiny("learns");
    LocalConfig config{.steps = 60, .schedule = {.learning_rate = 2e-2}};
    const TrainStats stats = tiny.train(config, random_records(6, 1)).state.stats;
    EXPECT_LT(stats.loss_last, 0.5 * stats.loss_first);
    EXPECT_LT(stats.loss_sum / 60, stats.loss_first);
}

TEST(LocalTrainer, MicroBatchesSumToTheGradientOfTheBatch) {
    TinyTraining tiny("micro");
    const EncodedRecords records = random_records(12, 2);
    LocalConfig config{.steps = 2,
                       .micro_batch_size = 32,
                       .optimizer = OptimizerKind::sgd,
                       .schedule = {.learning_rate = 0.1},
                       .lora_dropout = 0.2};
    const Progress whole = tiny.train(config, records).state;
    config.micro_batch_size = 3;
    const Progress parts = tiny.train(config, records).state;
    const std::vector<float> start = initial_adapter(tiny.layout, 1);
    std::vector<float> moved_whole, moved_parts;
    for (std::size_t i = 0; i < start.size(); ++i) {
        moved_whole.push_back(whole.x[i] - start[i]);
        moved_parts.push_back(parts.x[i] - start[i]);
    }
    // Other row counts round elsewhere; the dropout masks must be the same ones.
    EXPECT_LE(relative_distance(moved_parts, moved_whole), 1e-4);
    EXPECT_NEAR(parts.stats.loss_last, whole.stats.loss_last, 1e-5);
}

TEST(LocalTrainer, LossIsTheMeanOverTheTargetsOfTheWholeBatch) {
    TinyTraining tiny("mean");
    const EncodedRecords records = random_records(9, 3);
    LocalConfig config{.steps = 1, .micro_batch_size = 2};
    const double loss = tiny.train(config, records).state.stats.loss_first;
    const EvaluationSums sums = evaluate_records(tiny.decoder, *tiny.model.backend, records, 0, 9,
                                                 initial_adapter(tiny.layout, 1), 4);
    const double total = std::accumulate(sums.loss.begin(), sums.loss.end(), 0.0);
    const auto targets = std::accumulate(sums.targets.begin(), sums.targets.end(), std::int64_t{0});
    EXPECT_NEAR(loss, total / static_cast<double>(targets), 1e-6 * loss);
}

/// Stops the client after each possible step and goes on from what was saved.
TEST(LocalTrainer, ResumesToTheSameBitsFromEveryStep) {
    TinyTraining tiny("resume");
    const EncodedRecords records = random_records(20, 1);
    const TrainJob job{.client = 3, .round = 2};
    const TrainOutcome undisturbed = tiny.train(ragged_config(), records, job);
    ASSERT_EQ(undisturbed.end, TrainEnd::finished);
    for (std::int64_t stop_after = 0; stop_after < 12; ++stop_after) {
        const StopToken stop;
        if (stop_after == 0) stop.request(StopReason::signal);
        const TrainOutcome half =
            tiny.train(ragged_config(), records, job, nullptr, stop, [&](const TrainStats& stats) {
                if (stats.steps == stop_after) stop.request(StopReason::signal);
            });
        ASSERT_EQ(half.end, TrainEnd::stopped);
        ASSERT_EQ(half.state.step, stop_after);
        TinyTraining elsewhere("resume_elsewhere");  // another process would have its own
        const TrainOutcome rest = elsewhere.train(ragged_config(), records, job, &half.state);
        EXPECT_EQ(rest.end, TrainEnd::finished);
        expect_same(rest.state, undisturbed.state);
    }
}

TEST(LocalTrainer, AStopAfterTheLastStepFindsTheClientFinished) {
    TinyTraining tiny("last");
    const LocalConfig config{.steps = 2};
    const StopToken stop;
    const TrainOutcome outcome =
        tiny.train(config, random_records(4, 1), {}, nullptr, stop, [&](const TrainStats& stats) {
            if (stats.steps == 2) stop.request(StopReason::walltime);
        });
    EXPECT_EQ(outcome.end, TrainEnd::finished);
}

TEST(LocalTrainer, BitsDoNotDependOnWhoTrainedBefore) {
    TinyTraining used("used"), fresh("fresh");
    used.train(ragged_config(), random_records(30, 8), {.client = 1});
    used.train(ragged_config(), random_records(7, 9), {.client = 2});
    const EncodedRecords records = random_records(20, 1);
    const TrainJob job{.client = 5, .round = 1};
    expect_same(used.train(ragged_config(), records, job).state,
                fresh.train(ragged_config(), records, job).state);
}

TEST(LocalTrainer, RecordsWithoutATargetChangeNoBit) {
    TinyTraining tiny("unlabelled");
    const EncodedRecords records = random_records(20, 1);
    std::vector<std::int64_t> labelled;
    for (std::int64_t r = 0; r < records.size(); ++r) {
        if (records.targets[static_cast<std::size_t>(r)] > 0) labelled.push_back(r);
    }
    expect_same(tiny.train(ragged_config(), records).state,
                tiny.train(ragged_config(), select(records, labelled)).state);
}

TEST(LocalTrainer, ClientAndRoundDecideOrderAndDropout) {
    TinyTraining tiny("streams");
    const EncodedRecords records = random_records(20, 1);
    const auto x = [&](int client, int round) {
        return tiny.train(ragged_config(), records, {.client = client, .round = round}).state.x;
    };
    const std::vector<float> base = x(0, 0);
    EXPECT_NE(base, x(1, 0));
    EXPECT_NE(base, x(0, 1));
}

TEST(LocalTrainer, ScopeRunSpreadsTheScheduleOverAllRounds) {
    TinyTraining tiny("scope");
    const EncodedRecords records = random_records(6, 1);
    LocalConfig config{.steps = 1,
                       .optimizer = OptimizerKind::sgd,
                       .schedule = {.kind = LrScheduler::linear, .learning_rate = 0.1},
                       .lr_scope = LrScope::run,
                       .rounds = 4};
    // The same step with the rate that round 3 of 4 has: (4 - 3) / 4 of it.
    const std::vector<float> in_run = tiny.train(config, records, {.round = 3}).state.x;
    config.lr_scope = LrScope::round;
    config.schedule = {.learning_rate = 0.025};
    EXPECT_EQ(in_run, tiny.train(config, records, {.round = 3}).state.x);
}

TEST(LocalTrainer, AClientWithoutTargetsReturnsWhereItStarted) {
    TinyTraining tiny("nothing");
    EncodedRecords records;
    append_record(records, {1, 2, 3}, {-1, -1, -1});
    const TrainOutcome outcome = tiny.train(ragged_config(), records);
    EXPECT_EQ(outcome.end, TrainEnd::finished);
    EXPECT_EQ(outcome.state.x, initial_adapter(tiny.layout, 1));
    EXPECT_EQ(outcome.state.stats.steps, 0);
}

TEST(LocalTrainer, PeakMemoryGrowsWithTheMicroBatch) {
    TinyTraining tiny("peak");
    const EncodedRecords records = random_records(20, 1);
    LocalConfig config{.batch_size = 8, .micro_batch_size = 2};
    const LocalTrainer small(tiny.decoder, tiny.layout, *tiny.model.backend, config);
    config.micro_batch_size = 8;
    const LocalTrainer large(tiny.decoder, tiny.layout, *tiny.model.backend, config);
    const std::vector<PassSize> few{
        largest_pass(records, {.batch_size = 8, .micro_batch_size = 2})};
    const std::vector<PassSize> many{largest_pass(records, config)};
    EXPECT_GT(large.peak_bytes(many), small.peak_bytes(few));
    EXPECT_GT(small.peak_bytes(few),
              4 * sizeof(float) * static_cast<std::size_t>(tiny.layout.size));
    // A second member needs its own adapter and a wider pass, but not twice the memory.
    const std::vector<PassSize> two{few.front(), few.front()};
    EXPECT_GT(small.peak_bytes(two), small.peak_bytes(few) + 4 * sizeof(float) * tiny.layout.size);
    EXPECT_LE(small.peak_bytes(two), 2 * small.peak_bytes(few));
}

TEST(LocalTrainer, ADivergingClientIsNamed) {
    TinyTraining tiny("diverge");
    const LocalConfig config{
        .steps = 40, .optimizer = OptimizerKind::sgd, .schedule = {.learning_rate = 1e30}};
    const TrainOutcome outcome =
        tiny.train(config, random_records(6, 1), {.client = 17, .round = 3});
    EXPECT_EQ(outcome.end, TrainEnd::diverged);
    EXPECT_LT(outcome.state.step, 40);
    EXPECT_EQ(outcome.state.step, outcome.state.stats.steps);
    for (const char* part : {"client 17", "round 3", "step ", "--learning-rate", "1e+30"}) {
        EXPECT_NE(outcome.fault.find(part), std::string::npos) << part << " in " << outcome.fault;
    }
}

TEST(LocalTrainer, RefusesAnAdapterOfAnotherLayout) {
    TinyTraining tiny("layout");
    const TrainJob job{.start = std::vector<float>(3)};
    EXPECT_THROW(tiny.train(ragged_config(), random_records(6, 1), job), ShapeError);
}

}  // namespace
}  // namespace fedit::test
