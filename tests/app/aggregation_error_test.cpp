// tests/app/aggregation_error_test.cpp: `fedit train --log-aggregation-error` logs what the
// clients' adapters, made one by one in runs of their own, and their mean differ by.
#include <gtest/gtest.h>

#include <cmath>

#include "fedit/experiment/run_log.h"
#include "fedit/io/safetensors.h"
#include "tests/app/run_fedit.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr int lora_r = 2;
constexpr double scale = 4.0 / lora_r;

/// One full-batch run of the files of a folder, from the same initial adapter.
Words train(const std::string& model, const fs::path& data, const fs::path& output,
            const Words& more) {
    Words words{"train",
                "--model",
                model,
                "--data",
                data.string(),
                "--output",
                output.string(),
                "--lora-r",
                std::to_string(lora_r),
                "--lora-alpha",
                "4",
                "--lora-dropout",
                "0",
                "--local-steps",
                "5",
                "--learning-rate",
                "0.05",
                "--threads",
                "1",
                "--dtype",
                "fp32",
                "--progress",
                "none"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

SafetensorsFile adapter(const fs::path& run) {
    return SafetensorsFile(run / "adapters" / "round_000001" / "adapter_model.safetensors");
}

/// scale B A of the module, (out x in), in double.
std::vector<double> product(const SafetensorsFile& file, const std::string& module) {
    const std::string a_name = module + ".lora_A.weight", b_name = module + ".lora_B.weight";
    const auto a = file.read_floats(a_name), b = file.read_floats(b_name);
    const std::size_t in = a.size() / lora_r, out = b.size() / lora_r;
    std::vector<double> values(out * in);
    for (std::size_t o = 0; o < out; ++o)
        for (std::size_t i = 0; i < in; ++i)
            for (std::size_t j = 0; j < lora_r; ++j)
                values[o * in + i] += scale * double{b[o * lora_r + j]} * double{a[j * in + i]};
    return values;
}

std::vector<RoundRow> rounds_of(const fs::path& run) {
    return RunLog::read(Hdf5Reader(run / "run.h5", FileKind::run_log)).rounds;
}

TEST(LogAggregationError, EqualsTheProductsOfClientsTrainedAlone) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::vector<int> records{5, 15};
    const std::string all = test::tokenised_records(20);
    const std::size_t cut = all.find("[1, 8, 15, 25]");  // the sixth record
    const std::size_t line = all.rfind('\n', cut) + 1;
    const std::vector<std::string> texts{all.substr(0, line), all.substr(line)};
    for (std::size_t k = 0; k < texts.size(); ++k) {
        test::write_text(folder / "both" / ("local_training_" + std::to_string(k) + ".json"),
                         texts[k]);
        test::write_text(folder / ("alone_" + std::to_string(k)) / "local_training_0.json",
                         texts[k]);
    }
    const test::Outcome both = test::run_fedit(train(
        model, folder / "both", folder / "run", {"--rounds", "1", "--log-aggregation-error", "1"}));
    ASSERT_EQ(both.code, 0) << both.err;
    std::vector<SafetensorsFile> alone;
    for (int k = 0; k < 2; ++k) {
        const fs::path run = folder / ("run_" + std::to_string(k));
        const test::Outcome outcome = test::run_fedit(
            train(model, folder / ("alone_" + std::to_string(k)), run, {"--rounds", "1"}));
        ASSERT_EQ(outcome.code, 0) << outcome.err;
        alone.push_back(adapter(run));
    }

    const SafetensorsFile global = adapter(folder / "run");
    double error = 0, norm = 0;
    for (const auto& [name, tensor] : global.tensors()) {
        const std::size_t end = name.find(".lora_A");
        if (end == std::string::npos) continue;
        const std::string module = name.substr(0, end);
        const auto mean = product(global, module);
        const auto first = product(alone[0], module), second = product(alone[1], module);
        for (std::size_t i = 0; i < mean.size(); ++i) {
            const double wanted = (records[0] * first[i] + records[1] * second[i]) / 20;
            error += std::pow(wanted - mean[i], 2);
            norm += wanted * wanted;
        }
    }
    const RoundRow row = rounds_of(folder / "run").at(0);
    ASSERT_GT(error, 0);
    // A client's records come in another order when it trains alone: their sums round differently.
    EXPECT_NEAR(row.aggregation_error, std::sqrt(error) / scale, 1e-3 * row.aggregation_error);
    EXPECT_NEAR(row.aggregation_error_relative, std::sqrt(error / norm),
                1e-3 * row.aggregation_error_relative);
}

TEST(LogAggregationError, IsLoggedEveryNRoundsAndChangesNothingElse) {
    const fs::path folder = test::test_folder();
    const std::string model = test::write_tiny_model(folder / "model");
    const std::string data =
        test::write_text(folder / "records.jsonl", test::tokenised_records(12));
    const auto run = [&](const std::string& name, const Words& more) {
        Words words = train(model, data, folder / name, {"--rounds", "4", "--num-clients", "3"});
        words.insert(words.end(), more.begin(), more.end());
        const test::Outcome outcome = test::run_fedit(words);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        return rounds_of(folder / name);
    };
    const std::vector<RoundRow> never = run("never", {});
    const std::vector<RoundRow> second = run("second", {"--log-aggregation-error", "2"});
    ASSERT_EQ(second.size(), 4U);
    for (std::size_t i = 0; i < second.size(); ++i) {
        EXPECT_TRUE(std::isnan(never.at(i).aggregation_error));
        EXPECT_EQ(std::isnan(second[i].aggregation_error), i % 2 == 0) << i;
        EXPECT_EQ(std::isnan(second[i].aggregation_error_relative), i % 2 == 0) << i;
        EXPECT_EQ(second[i].train_loss, never.at(i).train_loss);
        EXPECT_EQ(second[i].update_norm, never.at(i).update_norm);
    }
}

TEST(LogAggregationError, IsRefusedWhereNoFactorsAreAveraged) {
    const test::Outcome outcome = test::run_fedit(
        train("model", "data", "run", {"--tune", "full", "--log-aggregation-error", "1"}));
    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(test::says(outcome.err, {"--tune full, --log-aggregation-error 1", "leave out"}));
}

}  // namespace
}  // namespace fedit
