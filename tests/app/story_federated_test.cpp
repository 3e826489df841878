// tests/app/story_federated_test.cpp: three federated rounds of a real model on real records
// through the command line equal the independent implementation: losses, evaluation and adapter.
#include <gtest/gtest.h>

#include <cmath>

#include "fedit/experiment/run_log.h"
#include "fedit/io/json.h"
#include "fedit/io/safetensors.h"
#include "tests/app/run_fedit.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

constexpr int rounds = 3;

std::vector<std::string> command(const fs::path& output) {
    const auto shared = [](const char* path) { return test::shared_path(path).string(); };
    return {"train",
            "--model",
            shared("data/models/story-656k"),
            "--data",
            shared("fixtures/story/clients"),
            "--init-adapter",
            shared("fixtures/story/adapter"),
            "--prompt-template",
            shared("data/prompts/alpaca.json"),
            "--cutoff-len",
            "256",
            "--local-steps",
            "4",
            "--batch-size",
            "64",
            "--micro-batch-size",
            "8",
            "--learning-rate",
            "0.002",
            "--lora-dropout",
            "0",
            "--rounds",
            std::to_string(rounds),
            "--threads",
            "1",
            "--device",
            test::device(),
            "--dtype",
            "fp32",
            "--keep-last",
            "0",
            "--output",
            output.string()};
}

/// ||got - want|| / ||want - start|| over all tensors of an adapter.
double relative_error(const SafetensorsFile& got, const SafetensorsFile& want,
                      const std::string& prefix, const SafetensorsFile& start) {
    double error = 0, update = 0;
    for (const auto& [name, tensor] : got.tensors()) {
        const auto mine = got.read_floats(name);
        const auto theirs = want.read_floats(prefix + name);
        const auto first = start.read_floats(name);
        for (std::size_t i = 0; i < mine.size(); ++i) {
            error += std::pow(double{mine[i]} - double{theirs[i]}, 2);
            update += std::pow(double{theirs[i]} - double{first[i]}, 2);
        }
    }
    return std::sqrt(error / update);
}

TEST(StoryFederated, EqualsTheIndependentImplementation) {
    const fs::path fixtures = test::shared_path("fixtures/story");
    FEDIT_REQUIRE_SHARED(fixtures / "federated.json");
    const fs::path output = test::test_folder() / "run";
    const test::Outcome outcome = test::run_fedit(command(output));
    ASSERT_EQ(outcome.code, 0) << outcome.err;

    const Json want = Json::parse_file(fixtures / "federated.json");
    const RunLog log = RunLog::read(Hdf5Reader(output / "run.h5", FileKind::run_log));
    ASSERT_EQ(log.rounds.size(), std::size_t{rounds});
    ASSERT_EQ(log.clients.size(), std::size_t{rounds} * 4);
    for (const ClientRow& client : log.clients) {
        const Json losses = want["rounds"][static_cast<std::size_t>(client.round)]["client_losses"]
                                [std::to_string(client.client)];
        double mean = 0;
        for (std::size_t step = 0; step < 4; ++step) mean += losses[step].as_double() / 4;
        EXPECT_NEAR(client.loss_first, losses[0].as_double(), 1e-6 * mean);
        EXPECT_NEAR(client.loss_last, losses[3].as_double(), 1e-6 * mean);
        EXPECT_NEAR(client.loss_mean, mean, 1e-6 * mean);
        EXPECT_EQ(client.records,
                  want["records_with_a_label"][static_cast<std::size_t>(client.client)].as_int());
    }
    const SafetensorsFile expected(fixtures / "federated.safetensors");
    const SafetensorsFile start(fixtures / "adapter" / "adapter_model.safetensors");
    for (int round = 0; round < rounds; ++round) {
        const double loss =
            want["rounds"][static_cast<std::size_t>(round)]["eval_loss"].as_double();
        EXPECT_NEAR(log.rounds[static_cast<std::size_t>(round)].eval_loss, loss, 1e-6 * loss);
        const SafetensorsFile adapter(output / "adapters" /
                                      ("round_00000" + std::to_string(round + 1)) /
                                      "adapter_model.safetensors");
        EXPECT_LT(relative_error(adapter, expected, "round" + std::to_string(round) + ".", start),
                  1e-4)
            << "round " << round;
    }
}

}  // namespace
}  // namespace fedit
