// tests/train/back_ends_test.cpp: training and evaluation where the host cannot touch the back
// end's memory, and how often the host waits for it.
#include <gtest/gtest.h>

#include "fedit/model/dense.h"
#include "tests/support/backends.h"
#include "tests/train/records.h"
#include "tests/train/tiny_training.h"

namespace fedit::test {
namespace {

/// Batches of 5 of 16 records that train, in micro-batches of 2: three passes a step, but one for
/// the last record of an epoch.
LocalConfig ragged_config() {
    return {.epochs = 2,
            .batch_size = 5,
            .micro_batch_size = 2,
            .schedule = {.learning_rate = 5e-3},
            .weight_decay = 0.01,
            .max_grad_norm = 1,
            .lora_dropout = 0.1,
            .seed = 4};
}
constexpr int steps = 2 * 4, passes = 2 * (3 * 3 + 1);

void expect_same(const Progress& a, const Progress& b) {
    EXPECT_EQ(a.x, b.x);
    EXPECT_EQ(a.optimizer.m, b.optimizer.m);
    EXPECT_EQ(a.optimizer.v, b.optimizer.v);
    EXPECT_EQ(a.stats.loss_first, b.stats.loss_first);
    EXPECT_EQ(a.stats.loss_sum, b.stats.loss_sum);
    EXPECT_EQ(a.stats.gradient_norm, b.stats.gradient_norm);
}

class TrainingOn : public testing::TestWithParam<Recompute> {};

TEST_P(TrainingOn, GuardedMemoryHasTheCpusBits) {
    TinyTraining cpu("cpu");
    TinyTraining guarded("guarded", make_backend(BackendKind::guarded), GetParam());
    const EncodedRecords records = random_records(20, 1);
    for (const OptimizerKind optimizer : {OptimizerKind::adamw, OptimizerKind::sgd}) {
        LocalConfig config = ragged_config();
        config.optimizer = optimizer;
        const TrainOutcome want = cpu.train(config, records, {.client = 3, .round = 2});
        expect_same(guarded.train(config, records, {.client = 3, .round = 2}).state, want.state);
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, TrainingOn,
                         testing::Values(Recompute::none, Recompute::light, Recompute::layer));

TEST(GuardedTraining, GoesOnFromASavedStateWithTheSameBits) {
    TinyTraining cpu("whole");
    TinyTraining guarded("parts", make_backend(BackendKind::guarded));
    const EncodedRecords records = random_records(20, 1);
    const StopToken stop;
    const TrainOutcome half =
        guarded.train(ragged_config(), records, {}, nullptr, stop, [&](const TrainStats& stats) {
            if (stats.steps == 3) stop.request(StopReason::signal);
        });
    ASSERT_EQ(half.end, TrainEnd::stopped);
    expect_same(guarded.train(ragged_config(), records, {}, &half.state).state,
                cpu.train(ragged_config(), records).state);
}

TEST(GuardedTraining, StartsFromBackEndMemoryAndWritesOverWhatWasRecycled) {
    TinyTraining cpu("given");
    auto backend = std::make_unique<GuardedBackend>();
    GuardedBackend& guard = *backend;
    TinyTraining guarded("there", std::move(backend));
    const EncodedRecords records = random_records(20, 1);
    const std::vector<float> start = initial_adapter(cpu.layout, 1);
    const DeviceBuffer there(guard, start.size() * sizeof(float));
    guard.upload(there.data(), std::as_bytes(std::span(start)));
    LocalConfig config = ragged_config();
    const Progress want = cpu.train(config, records).state;
    config.keep_moments = false;
    LocalTrainer trainer(guarded.decoder, guarded.layout, guard, config);
    const CohortMember member{.job = {.start_in_backend = there.floats()}, .records = &records};
    for (int time = 0; time < 2; ++time) {  // the second time in used memory
        TrainOutcome got = trainer.train({&member, 1}, {}).front();
        EXPECT_EQ(got.state.x, want.x);
        EXPECT_TRUE(got.state.optimizer.m.empty());
        EXPECT_EQ(got.state.optimizer.step, want.optimizer.step);
        std::vector<float> still_there(start.size());
        guard.download(std::as_writable_bytes(std::span(still_there)), got.x_in_backend);
        EXPECT_EQ(still_there, want.x);
        trainer.recycle(std::move(got.state.x));
    }
}

TEST(GuardedTraining, OfAllWeightsHasTheCpusBits) {
    const auto folder = write_tiny_model(
        fresh_folder("full"), tiny_config(R"(, "attention_bias": true, "mlp_bias": true)"));
    const auto train = [&](BackendKind kind, Tune tune) {
        const LoadedModel model(folder, make_backend(kind));
        const Layout layout = make_dense_layout(model.config(), tune);
        Decoder decoder(model.config(), model.weights, layout, *model.backend);
        LocalConfig config = ragged_config();
        config.lora_dropout = 0;
        LocalTrainer trainer(decoder, layout, *model.backend, config);
        const EncodedRecords records = random_records(20, 1);
        const CohortMember member{.job = {.start = read_dense(layout, model.folder)},
                                  .records = &records};
        return trainer.train({&member, 1}, {}).front().state;
    };
    for (const Tune tune : {Tune::full, Tune::bitfit}) {
        expect_same(train(BackendKind::guarded, tune), train(BackendKind::cpu, tune));
    }
}

TEST(Bf16Training, LearnsAsFp32Does) {
    TinyTraining cpu("fp32"), half("bf16", make_backend(BackendKind::guarded_bf16));
    const LocalConfig config{.steps = 30, .schedule = {.learning_rate = 1e-2}};
    const TrainStats want = cpu.train(config, random_records(6, 1)).state.stats;
    const TrainStats got = half.train(config, random_records(6, 1)).state.stats;
    EXPECT_NEAR(got.loss_first, want.loss_first, 1e-2 * want.loss_first);
    EXPECT_NEAR(got.loss_sum, want.loss_sum, 3e-2 * want.loss_sum);
    EXPECT_NE(got.loss_sum, want.loss_sum);
}

TEST(GuardedTraining, TheHostWaitsOnceAPassAndOnceAStep) {
    auto backend = std::make_unique<GuardedBackend>();
    const GuardedBackend& guard = *backend;
    TinyTraining tiny("waits", std::move(backend));
    const int before = guard.waits();
    tiny.train(ragged_config(), random_records(20, 1));
    const int of_the_end = 3;  // x and both moments come to the host
    EXPECT_LE(guard.waits() - before, passes + steps + of_the_end);
}

TEST(GuardedEvaluation, HasTheCpusBitsAndWaitsOnceAPass) {
    auto backend = std::make_unique<GuardedBackend>();
    const GuardedBackend& guard = *backend;
    TinyTraining cpu("cpu"), guarded("guarded", std::move(backend));
    const EncodedRecords records = random_records(21, 6);
    const std::vector<float> x = random_adapter(cpu.layout.size, 0.2, 3);
    const int before = guard.waits();
    const EvaluationSums got =
        evaluate_records(guarded.decoder, *guarded.model.backend, records, 0, 21, x, 4);
    EXPECT_LE(guard.waits() - before, 6);
    const EvaluationSums want =
        evaluate_records(cpu.decoder, *cpu.model.backend, records, 0, 21, x, 4);
    EXPECT_EQ(got.loss, want.loss);
    EXPECT_EQ(got.hits, want.hits);
}

TEST(LargestEvaluationPass, CoversEveryBatchThatIsPacked) {
    EncodedRecords records;
    for (const std::size_t length : {2U, 9U, 4U, 3U, 8U}) {
        const std::vector<std::int32_t> tokens(length, 1);
        append_record(records, tokens, tokens);
    }
    const PassSize pairs = largest_evaluation_pass(records, 0, 5, 2);
    EXPECT_EQ(pairs.rows, 11);
    EXPECT_EQ(pairs.target_rows, 9);
    EXPECT_EQ(largest_evaluation_pass(records, 2, 5, 2).rows, 8);
    EXPECT_EQ(largest_evaluation_pass(records, 5, 5, 2).rows, 0);
}

}  // namespace
}  // namespace fedit::test
