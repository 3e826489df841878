// tests/model/decoder_fixture_test.cpp: the decoder against values of an independent
// implementation.
#include <gtest/gtest.h>

#include <cmath>

#include "fedit/model/peft.h"
#include "tests/model/loaded_model.h"
#include "tests/support/backends.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

// What an fp32 implementation meets, as the fixtures' README says.
constexpr double logit_tolerance = 2e-5;
constexpr double loss_tolerance = 1e-6;
constexpr double gradient_tolerance = 1e-5;

double largest_difference(std::span<const float> a, std::span<const float> b) {
    double largest = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
        largest = std::max(largest, std::abs(double{a[i]} - b[i]));
    }
    return largest;
}

/// A fixture's folder and the back end that computes it.
using Case = std::tuple<const char*, BackendKind>;

std::string case_name(const testing::TestParamInfo<Case>& info) {
    std::string name = std::get<0>(info.param) + ("_" + to_string(std::get<1>(info.param)));
    for (char& letter : name) {
        if (letter == '-' || letter == '.') letter = '_';
    }
    return name;
}

class Models : public testing::TestWithParam<Case> {};

TEST_P(Models, LogitsAndLossAreThoseOfTransformers) {
    const auto [name, kind] = GetParam();
    const fs::path folder = shared_path("fixtures/models") / name;
    FEDIT_REQUIRE_SHARED(folder);
    const LoadedModel model(folder, make_backend(kind));
    const SafetensorsFile expected(folder / "expected.safetensors");
    const PackedBatch batch = fixture_batch(expected, "");
    const Layout no_adapter;
    Decoder decoder(model.config(), model.weights, no_adapter, *model.backend);

    const std::vector<float> logits = decoder.logits(batch, {});
    std::vector<double> loss(batch.targets.size());
    decoder.evaluate(batch, {}, loss);

    const std::vector<float> want = expected.read_floats("logits");
    ASSERT_EQ(logits.size(), want.size());
    EXPECT_LE(largest_difference(logits, want), logit_tolerance);
    EXPECT_EQ(static_cast<std::int32_t>(loss.size()), expected.read_int32("label_count")[0]);
    const double want_loss = expected.read_floats("loss")[0];
    EXPECT_NEAR(weighted(batch, loss), want_loss, loss_tolerance * want_loss);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Models,
                         testing::Combine(testing::Values("llama-gqa", "llama-rope-llama3-tied",
                                                          "llama-rope-linear-bias",
                                                          "mistral-window", "qwen2", "qwen3"),
                                          testing::ValuesIn(fp32_backends())),
                         case_name);

class Adapters : public testing::TestWithParam<Case> {};

TEST_P(Adapters, LossLogitsAndGradientsAreThoseOfPeft) {
    const auto [fixture, kind] = GetParam();
    const fs::path folder = shared_path("fixtures/lora") / fixture;
    FEDIT_REQUIRE_SHARED(folder);
    const Json summary = Json::parse_file(folder / "expected.json");
    const LoadedModel model(shared_path("fixtures/models") / summary["model"].as_string(),
                            make_backend(kind));
    const PeftAdapter adapter = read_peft(folder / "adapter", model.config());
    const SafetensorsFile expected(folder / "expected.safetensors");
    const PackedBatch batch = fixture_batch(expected, "batch0.");
    Decoder decoder(model.config(), model.weights, adapter.layout, *model.backend);
    const DeviceVector x(*model.backend, adapter.x),
        added(*model.backend, std::vector<float>(adapter.x.size(), 0.0F));
    const AdapterSlot slot{.x = x.data(), .gradient = added.data()};

    const std::vector<float> logits = decoder.logits(batch, {&slot, 1});
    std::vector<double> evaluated(batch.targets.size()), trained(batch.targets.size());
    decoder.evaluate(batch, {&slot, 1}, evaluated);
    decoder.train(batch, {&slot, 1}, trained);
    const std::vector<float> gradient = added.values();

    EXPECT_LE(largest_difference(logits, expected.read_floats("logits")), logit_tolerance);
    const double want_loss = expected.read_floats("loss")[0];
    EXPECT_NEAR(weighted(batch, evaluated), want_loss, loss_tolerance * want_loss);
    EXPECT_NEAR(weighted(batch, trained), want_loss, loss_tolerance * want_loss);
    for (const Module& module : adapter.layout.modules) {
        for (const Span& span : module.spans) {
            const std::string name = "grad.base_model.model.model." + module.name +
                                     (span.part == Part::lora_a ? ".lora_A" : ".lora_B") +
                                     ".weight";
            const auto got = std::span<const float>(gradient).subspan(
                static_cast<std::size_t>(span.offset), static_cast<std::size_t>(span.size()));
            EXPECT_LE(relative_distance(got, expected.read_floats(name)), gradient_tolerance)
                << name;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, Adapters,
    testing::Combine(testing::Values("llama-gqa.q", "llama-gqa.all", "llama-rope-linear-bias.all",
                                     "mistral-window.qkvo-rslora", "qwen2.ranks", "qwen3.all"),
                     testing::ValuesIn(fp32_backends())),
    case_name);

}  // namespace
}  // namespace fedit::test
