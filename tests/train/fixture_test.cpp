// tests/train/fixture_test.cpp: optimizer runs and a federation against values of PyTorch and PEFT.
#include <gtest/gtest.h>

#include <map>

#include "fedit/model/dense.h"
#include "fedit/model/peft.h"
#include "fedit/train/local_trainer.h"
#include "tests/model/loaded_model.h"
#include "tests/support/backends.h"
#include "tests/support/shared_data.h"
#include "tests/train/records.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

// What an fp32 implementation meets, as the fixtures' README says.
constexpr double loss_tolerance = 1e-6;
constexpr double gradient_tolerance = 1e-5;
constexpr double adapter_tolerance = 1e-4;  // of the update's norm

/// The adapter that a fixture stores under `prefix` + PEFT's names.
std::vector<float> fixture_adapter(const SafetensorsFile& file, const std::string& prefix,
                                   const Layout& layout) {
    std::vector<float> x(static_cast<std::size_t>(layout.size));
    for (const Module& module : layout.modules) {
        for (const Span& span : module.spans) {
            const std::string name = prefix + "base_model.model.model." + module.name +
                                     (span.part == Part::lora_a ? ".lora_A" : ".lora_B") +
                                     ".weight";
            file.read_floats(name, std::span(x).subspan(static_cast<std::size_t>(span.offset),
                                                        static_cast<std::size_t>(span.size())));
        }
    }
    return x;
}

/// ||got - want|| / ||want - start||.
double update_distance(std::span<const float> got, std::span<const float> want,
                       std::span<const float> start) {
    std::vector<float> got_update, want_update;
    for (std::size_t i = 0; i < want.size(); ++i) {
        got_update.push_back(got[i] - start[i]);
        want_update.push_back(want[i] - start[i]);
    }
    return relative_distance(got_update, want_update);
}

Progress train_alone(LocalTrainer& trainer, const TrainJob& job, const EncodedRecords& records,
                     const StepCallback& step = {}) {
    const CohortMember member{.job = job, .records = &records};
    return trainer.train({&member, 1}, {}, step).front().state;
}

LocalConfig optimizer_config(const Json& run) {
    LocalConfig config{.steps = 1, .batch_size = 64, .micro_batch_size = 3};
    config.schedule = {.kind = run["schedule"].as_string() == "linear" ? LrScheduler::linear
                                                                       : LrScheduler::constant,
                       .learning_rate = run["lr"].as_double(),
                       .warmup_steps = run["warmup_steps"].as_int()};
    config.weight_decay = run["weight_decay"].as_double();
    config.max_grad_norm = run.number_or("clip", 0);
    if (run.has("betas")) {
        config.beta1 = run["betas"][0].as_double();
        config.beta2 = run["betas"][1].as_double();
    }
    // Each step has a batch of its own, so each is a round of one step on the run's schedule.
    config.lr_scope = LrScope::run;
    config.rounds = static_cast<int>(run["steps"].as_int());
    return config;
}

/// A fixture's folder and the back end that trains it.
using Case = std::tuple<const char*, BackendKind>;

std::string case_name(const testing::TestParamInfo<Case>& info) {
    std::string name = std::get<0>(info.param) + ("_" + to_string(std::get<1>(info.param)));
    for (char& letter : name) {
        if (letter == '-' || letter == '.') letter = '_';
    }
    return name;
}

class OptimizerRuns : public testing::TestWithParam<Case> {
protected:
    void expect_run(const fs::path& folder, const std::string& name) {
        SCOPED_TRACE(name);
        const Json summary = Json::parse_file(folder / "expected.json");
        const LoadedModel model(shared_path("fixtures/models") / summary["model"].as_string(),
                                make_backend(std::get<1>(GetParam())));
        const PeftAdapter adapter = read_peft(folder / "adapter", model.config());
        const SafetensorsFile expected(folder / "expected.safetensors");
        const Json run = summary[name];
        const LocalConfig config = optimizer_config(run);
        Decoder decoder(model.config(), model.weights, adapter.layout, *model.backend);
        LocalTrainer trainer(decoder, adapter.layout, *model.backend, config);

        TrainJob job{.start = adapter.x};
        for (int step = 0; step < config.rounds; ++step) {
            job.round = step;
            const auto records =
                fixture_records(expected, "batch" + std::to_string(step % 3) + ".");
            const Progress state = train_alone(trainer, job, records);
            const auto i = static_cast<std::size_t>(step);
            const double loss = run["losses"][i].as_double();
            const double norm = run["grad_norms"][i].as_double();
            EXPECT_NEAR(state.stats.loss_last, loss, loss_tolerance * loss) << "step " << step;
            EXPECT_NEAR(state.stats.gradient_norm, norm, gradient_tolerance * norm)
                << "step " << step;
            job.start = state.x;
            job.optimizer = state.optimizer;
        }
        EXPECT_LE(update_distance(job.start,
                                  fixture_adapter(expected, "after." + name + ".", adapter.layout),
                                  adapter.x),
                  adapter_tolerance);
    }
};

TEST_P(OptimizerRuns, LossesNormsAndAdaptersAreThoseOfPyTorch) {
    const fs::path folder = shared_path("fixtures/lora") / std::get<0>(GetParam());
    FEDIT_REQUIRE_SHARED(folder);
    expect_run(folder, "constant");
    expect_run(folder, "linear-warmup-decay-clip");
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, OptimizerRuns,
    testing::Combine(testing::Values("llama-gqa.q", "llama-gqa.all", "llama-rope-linear-bias.all",
                                     "mistral-window.qkvo-rslora", "qwen2.ranks", "qwen3.all"),
                     testing::ValuesIn(fp32_backends())),
    case_name);

class FullTuning : public testing::TestWithParam<Case> {};

TEST_P(FullTuning, LossesNormsAndWeightsAreThoseOfPyTorch) {
    const auto [name, kind] = GetParam();
    const fs::path folder = shared_path("fixtures/full") / name;
    FEDIT_REQUIRE_SHARED(folder);
    const Json summary = Json::parse_file(folder / "expected.json");
    const LoadedModel model(shared_path("fixtures/models") / summary["model"].as_string(),
                            make_backend(kind));
    const SafetensorsFile expected(folder / "expected.safetensors");
    const Layout layout = make_dense_layout(model.config(), Tune::full);
    LocalConfig config{.steps = 1, .batch_size = 64, .micro_batch_size = 2};
    config.schedule.learning_rate = summary["lr"].as_double();
    config.max_grad_norm = summary["clip"].as_double();
    Decoder decoder(model.config(), model.weights, layout, *model.backend);
    LocalTrainer trainer(decoder, layout, *model.backend, config);

    const std::vector<float> start = read_dense(layout, model.folder);
    TrainJob job{.start = start};
    for (int step = 0; step < static_cast<int>(summary["steps"].as_int()); ++step) {
        job.round = step;
        const auto records = fixture_records(expected, "batch" + std::to_string(step % 2) + ".");
        const Progress state = train_alone(trainer, job, records);
        const auto i = static_cast<std::size_t>(step);
        const double loss = summary["losses"][i].as_double();
        const double norm = summary["grad_norms"][i].as_double();
        EXPECT_NEAR(state.stats.loss_last, loss, loss_tolerance * loss) << "step " << step;
        EXPECT_NEAR(state.stats.gradient_norm, norm, gradient_tolerance * norm) << "step " << step;
        job.start = state.x;
        job.optimizer = state.optimizer;
    }
    std::vector<float> want(start.size());
    for (const Module& module : layout.modules) {
        const Span& span = module.spans.front();
        expected.read_floats("after." + module.name,
                             std::span(want).subspan(static_cast<std::size_t>(span.offset),
                                                     static_cast<std::size_t>(span.size())));
    }
    EXPECT_LE(update_distance(job.start, want, start), adapter_tolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, FullTuning,
                         testing::Combine(testing::Values("llama-gqa", "llama-rope-llama3-tied",
                                                          "llama-rope-linear-bias", "qwen3"),
                                          testing::ValuesIn(fp32_backends())),
                         case_name);

TEST(Federation, ClientLossesAndAveragedAdaptersAreThoseOfPyTorch) {
    const fs::path folder = shared_path("fixtures/federation/fedavg");
    FEDIT_REQUIRE_SHARED(folder);
    const Json summary = Json::parse_file(folder / "expected.json");
    const LoadedModel model(shared_path("fixtures/models") / summary["model"].as_string());
    const PeftAdapter adapter = read_peft(folder / "adapter", model.config());
    const SafetensorsFile expected(folder / "expected.safetensors");
    const LocalConfig config{.steps = summary["local_steps"].as_int(),
                             .batch_size = 64,
                             .micro_batch_size = 4,
                             .schedule = {.learning_rate = summary["lr"].as_double()}};
    Decoder decoder(model.config(), model.weights, adapter.layout, *model.backend);
    LocalTrainer trainer(decoder, adapter.layout, *model.backend, config);

    std::vector<float> x = adapter.x;
    const Json rounds = summary["rounds"];
    for (std::size_t round = 0; round < rounds.size(); ++round) {
        std::vector<double> sum(x.size(), 0.0);
        double weight = 0;
        const Json clients = rounds[round]["clients"];
        for (std::size_t i = 0; i < clients.size(); ++i) {
            const auto client = static_cast<std::size_t>(clients[i].as_int());
            const std::string name = std::to_string(client);
            const auto records = fixture_records(expected, "client" + name + ".");
            std::vector<double> losses;
            double before = 0;
            const TrainJob job{
                .client = static_cast<int>(client), .round = static_cast<int>(round), .start = x};
            const Progress trained = train_alone(trainer, job, records, [&](auto, auto& stats) {
                losses.push_back(stats.loss_sum - before);
                before = stats.loss_sum;
            });
            const Json want = rounds[round]["losses"][name];
            ASSERT_EQ(losses.size(), want.size());
            for (std::size_t s = 0; s < losses.size(); ++s) {
                EXPECT_NEAR(losses[s], want[s].as_double(), loss_tolerance * want[s].as_double());
            }
            const double n = summary["records"][client].as_double();
            for (std::size_t e = 0; e < x.size(); ++e) sum[e] += n * (double{trained.x[e]} - x[e]);
            weight += n;
        }
        for (std::size_t e = 0; e < x.size(); ++e) {
            x[e] = static_cast<float>(x[e] + sum[e] / weight);
        }
        const std::string prefix = "round" + std::to_string(round) + ".";
        // What fp32 lost in earlier rounds is in x too, so all that moved so far is the measure: a
        // gradient near zero decides the sign of AdamW's first step, and PyTorch's own fp32 run is
        // as far from the double one.
        EXPECT_LE(update_distance(x, fixture_adapter(expected, prefix, adapter.layout), adapter.x),
                  adapter_tolerance)
            << prefix;
    }
}

}  // namespace
}  // namespace fedit::test
