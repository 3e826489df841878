// tests/model/dense_test.cpp: gradients of the base's own weights, against PyTorch and by finite
// differences.
#include "fedit/model/dense.h"

#include <gtest/gtest.h>

#include "fedit/core/error.h"
#include "fedit/model/merged_model.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

constexpr double loss_tolerance = 1e-6;
constexpr double gradient_tolerance = 1e-5;

/// A model whose weights train, and one pass over a batch.
struct DensePass {
    DensePass(const fs::path& folder, Tune tune, int threads = 1)
        : model(folder, threads),
          layout(make_dense_layout(model.config(), tune)),
          x(read_dense(layout, model.folder)),
          decoder(model.config(), model.weights, layout, *model.backend) {}

    double train(const PackedBatch& batch) {
        gradient.assign(x.size(), 0.0F);
        const AdapterSlot slot{.x = x.data(), .gradient = gradient.data()};
        std::vector<double> loss(batch.targets.size());
        decoder.load(x.data());
        decoder.train(batch, {&slot, 1}, loss);
        return weighted(batch, loss);
    }
    std::span<const float> gradient_of(const Module& module) const {
        const Span& span = module.spans.front();
        return std::span(gradient).subspan(static_cast<std::size_t>(span.offset),
                                           static_cast<std::size_t>(span.size()));
    }

    LoadedModel model;
    Layout layout;
    std::vector<float> x, gradient;
    Decoder decoder;
};

class Dense : public testing::TestWithParam<const char*> {};

TEST_P(Dense, GradientsOfAllWeightsAreThoseOfPyTorch) {
    const fs::path folder = shared_path("fixtures/full") / GetParam();
    FEDIT_REQUIRE_SHARED(folder);
    const SafetensorsFile expected(folder / "expected.safetensors");
    const PackedBatch batch = fixture_batch(expected, "batch0.");
    DensePass pass(shared_path("fixtures/models") / GetParam(), Tune::full, 2);

    const double want_loss = expected.read_floats("loss")[0];
    EXPECT_NEAR(pass.train(batch), want_loss, loss_tolerance * want_loss);
    for (const Module& module : pass.layout.modules) {
        EXPECT_LE(relative_distance(pass.gradient_of(module),
                                    expected.read_floats("grad." + module.name)),
                  gradient_tolerance)
            << module.name;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Dense,
                         testing::Values("llama-gqa", "llama-rope-llama3-tied",
                                         "llama-rope-linear-bias", "qwen3"));

/// Two sequences of a tiny model's tokens.
PackedBatch tiny_batch() {
    PackedBatch batch;
    append_sequence(batch, random_tokens(9, 1), 3);
    append_sequence(batch, random_tokens(6, 2), 0);
    return batch;
}

struct TinyCase {
    const char* name;
    const char* extra;  ///< fields of config.json
};

class TinyDense : public testing::TestWithParam<TinyCase> {
protected:
    fs::path folder() {
        const std::string name = std::string("model_") + GetParam().name;
        std::string config = tiny_config();
        if (std::string_view(GetParam().name) == "tied") {
            config.replace(config.find("\"tie_word_embeddings\": false"), 28,
                           "\"tie_word_embeddings\": true ");
        }
        config.insert(config.rfind('}'), GetParam().extra);
        return write_tiny_model(fresh_folder(name), config);
    }
};

TEST_P(TinyDense, GradientAgreesWithFiniteDifferences) {
    DensePass pass(folder(), Tune::full);
    const PackedBatch batch = tiny_batch();
    // Random places, so that no gain is 1 and no bias 0.
    const std::vector<float> start = random_adapter(pass.layout.size, 0.1, 3);
    for (std::size_t i = 0; i < start.size(); ++i) pass.x[i] += start[i];
    pass.train(batch);
    const std::vector<float> x = pass.x, gradient = pass.gradient;
    for (const Module& module : pass.layout.modules) {
        const auto first = static_cast<std::size_t>(module.spans.front().offset);
        const auto size = static_cast<std::size_t>(module.spans.front().size());
        double norm = 0;
        for (std::size_t i = first; i < first + size; ++i)
            norm += double{gradient[i]} * gradient[i];
        norm = std::sqrt(norm);
        ASSERT_GT(norm, 0) << module.name;
        const auto loss_at = [&](double distance) {
            pass.x = x;
            for (std::size_t i = first; i < first + size; ++i) {
                pass.x[i] += static_cast<float>(distance * gradient[i] / norm);
            }
            return pass.train(batch);
        };
        const double h = 0.004;  // the random embedding bends the loss strongly
        const double slope =
            (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h);
        EXPECT_NEAR(slope, norm, 2e-3 * norm + 2e-4) << module.name;
    }
}

TEST_P(TinyDense, UnchangedWeightsGiveTheFrozenModelsBits) {
    DensePass pass(folder(), Tune::full);
    const Layout no_adapter;
    Decoder frozen(pass.model.config(), pass.model.weights, no_adapter, *pass.model.backend);
    pass.decoder.load(pass.x.data());
    const AdapterSlot slot{.x = pass.x.data()};
    EXPECT_EQ(pass.decoder.logits(tiny_batch(), {&slot, 1}), frozen.logits(tiny_batch(), {}));
}

TEST_P(TinyDense, WrittenFolderHoldsTheTrainedWeights) {
    const fs::path from = folder();
    DensePass pass(from, Tune::full);
    const std::vector<float> moved = random_adapter(pass.layout.size, 0.1, 4);
    const fs::path to = fresh_folder(std::string("written_") + GetParam().name);
    write_merged_model(HfFolder(from), {.config = {}, .layout = pass.layout, .x = moved},
                       {.type = StoredType::f32}, AtomicFile(), to / "model");
    const HfFolder written(to / "model");
    EXPECT_EQ(read_dense(pass.layout, written), moved);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyDense,
                         testing::Values(TinyCase{"plain", ""}, TinyCase{"tied", ""},
                                         TinyCase{"biases",
                                                  R"(, "attention_bias": true, "mlp_bias": true)"}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(BitFit, TrainsTheBiasesWithTheGradientsOfFullTuning) {
    const fs::path folder = write_tiny_model(
        fresh_folder("bitfit"), tiny_config(R"(, "attention_bias": true, "mlp_bias": true)"));
    DensePass full(folder, Tune::full), biases(folder, Tune::bitfit);
    full.train(tiny_batch());
    biases.train(tiny_batch());
    std::size_t found = 0;
    for (const Module& module : full.layout.modules) {
        if (!module.name.ends_with(".bias")) continue;
        const Module& alone = biases.layout.modules.at(found++);
        ASSERT_EQ(alone.name, module.name);
        const auto want = full.gradient_of(module), got = biases.gradient_of(alone);
        EXPECT_TRUE(std::equal(got.begin(), got.end(), want.begin(), want.end())) << module.name;
    }
    EXPECT_EQ(found, biases.layout.modules.size());
    EXPECT_EQ(found, 2U * 7U);
}

TEST(BitFit, NamesAModelWithoutBiases) {
    const ModelConfig model = parse_model_config(Json::parse(tiny_config(), "config.json"));
    EXPECT_THROW(make_dense_layout(model, Tune::bitfit), InputError);
}

}  // namespace
}  // namespace fedit::test
