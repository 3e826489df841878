// tests/model/back_ends_test.cpp: the decoder where the host cannot touch its memory, where
// activations are bf16, and where backward computes again what forward did not keep.
#include <gtest/gtest.h>

#include <set>

#include "fedit/model/dense.h"
#include "fedit/model/peft.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/backends.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

/// What comes out of a decoder.
struct Results {
    std::vector<float> logits, gradient;
    std::vector<double> evaluated, trained;
    std::vector<std::int32_t> best;
};

void expect_same(const Results& got, const Results& want) {
    EXPECT_TRUE(got.logits == want.logits) << "logits";
    EXPECT_TRUE(got.evaluated == want.evaluated) << "evaluated losses";
    EXPECT_TRUE(got.best == want.best) << "largest logits";
    EXPECT_TRUE(got.trained == want.trained) << "training losses";
    EXPECT_TRUE(got.gradient == want.gradient) << "gradients";
}

/// How a decoder computes.
struct Way {
    BackendKind backend = BackendKind::cpu;
    Recompute recompute = Recompute::none;
    double dropout = 0;
};

Results compute(const fs::path& folder, const Layout& layout, const std::vector<float>& x,
                const PackedBatch& batch, const Way& way) {
    const LoadedModel model(folder, make_backend(way.backend));
    Decoder decoder(model.config(), model.weights, layout, *model.backend, way.recompute);
    const DeviceVector values(*model.backend, x),
        gradient(*model.backend, std::vector<float>(x.size(), 0.0F));
    const AdapterSlot slot{
        .x = values.data(), .gradient = gradient.data(), .dropout = way.dropout, .dropout_key = 7};
    decoder.load(values.data());
    Results results;
    results.evaluated.resize(batch.targets.size());
    results.trained.resize(batch.targets.size());
    results.best.resize(batch.targets.size());
    results.logits = decoder.logits(batch, {&slot, 1});
    decoder.evaluate(batch, {&slot, 1}, results.evaluated, results.best);
    decoder.train(batch, {&slot, 1}, results.trained);
    results.gradient = gradient.values();
    return results;
}

/// What a fixture stores beside the model it names.
struct Fixture {
    explicit Fixture(const fs::path& path)
        : folder(shared_path("fixtures/models") /
                 Json::parse_file(path / "expected.json")["model"].as_string()),
          expected(path / "expected.safetensors"),
          batch(fixture_batch(expected, "batch0.")) {}

    double loss() const { return expected.read_floats("loss")[0]; }

    fs::path folder;
    SafetensorsFile expected;
    PackedBatch batch;
};

class AdapterFixture : public testing::TestWithParam<const char*> {};

TEST_P(AdapterFixture, HasTheCpusBitsInMemoryThatTheHostCannotTouch) {
    const fs::path path = shared_path("fixtures/lora") / GetParam();
    FEDIT_REQUIRE_SHARED(path);
    const Fixture fixture(path);
    const PeftAdapter adapter = read_peft(path / "adapter", HfFolder(fixture.folder).config());
    const Results cpu = compute(fixture.folder, adapter.layout, adapter.x, fixture.batch, {});
    expect_same(compute(fixture.folder, adapter.layout, adapter.x, fixture.batch,
                        {.backend = BackendKind::guarded}),
                cpu);
}

// A bf16 activation is within 2^-9 of the fp32 one; through a few layers losses stay within 1e-2,
// and gradients within what PyTorch's own bf16 runs show, a few percent.
TEST_P(AdapterFixture, IsCloseWithActivationsInBf16) {
    const fs::path path = shared_path("fixtures/lora") / GetParam();
    FEDIT_REQUIRE_SHARED(path);
    const Fixture fixture(path);
    const PeftAdapter adapter = read_peft(path / "adapter", HfFolder(fixture.folder).config());
    const Results cpu = compute(fixture.folder, adapter.layout, adapter.x, fixture.batch, {});
    for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
        const Results half = compute(fixture.folder, adapter.layout, adapter.x, fixture.batch,
                                     {BackendKind::guarded_bf16, recompute});
        EXPECT_NEAR(weighted(fixture.batch, half.trained), fixture.loss(), 1e-2 * fixture.loss());
        EXPECT_NE(half.trained, cpu.trained);
        EXPECT_EQ(half.trained, half.evaluated);
        EXPECT_LE(relative_distance(half.logits, cpu.logits), 2e-2);
        EXPECT_LE(relative_distance(half.gradient, cpu.gradient), 5e-2);
    }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, AdapterFixture,
                         testing::Values("llama-gqa.all", "llama-rope-linear-bias.all",
                                         "mistral-window.qkvo-rslora", "qwen2.ranks", "qwen3.all"));

class FullFixture : public testing::TestWithParam<const char*> {};

TEST_P(FullFixture, HasTheCpusBitsInGuardedMemoryAndIsCloseInBf16) {
    const fs::path path = shared_path("fixtures/full") / GetParam();
    FEDIT_REQUIRE_SHARED(path);
    const Fixture fixture(path);
    const HfFolder files(fixture.folder);
    const Layout layout = make_dense_layout(files.config(), Tune::full);
    const std::vector<float> x = read_dense(layout, files);
    const Results cpu = compute(fixture.folder, layout, x, fixture.batch, {});
    expect_same(
        compute(fixture.folder, layout, x, fixture.batch, {.backend = BackendKind::guarded}), cpu);
    const Results half =
        compute(fixture.folder, layout, x, fixture.batch, {.backend = BackendKind::guarded_bf16});
    EXPECT_NEAR(weighted(fixture.batch, half.trained), fixture.loss(), 1e-2 * fixture.loss());
    EXPECT_LE(relative_distance(half.gradient, cpu.gradient), 5e-2);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, FullFixture,
                         testing::Values("llama-gqa", "llama-rope-llama3-tied",
                                         "llama-rope-linear-bias", "qwen3"));

/// Two sequences whose last layer has fewer rows than the others.
PackedBatch tiny_batch() {
    PackedBatch batch;
    append_sequence(batch, random_tokens(9, 1), 3);
    append_sequence(batch, random_tokens(14, 2), 6);
    return batch;
}

struct Model {
    const char* name;
    std::string config;
    std::vector<std::string> targets;  ///< of the adapter; empty: all weights train
};
void PrintTo(const Model& model, std::ostream* out) {
    *out << model.name;
}

class Recomputed : public testing::TestWithParam<Model> {
protected:
    Recomputed()
        : folder_(write_tiny_model(fresh_folder(GetParam().name), GetParam().config)),
          model_(folder_),
          layout_(GetParam().targets.empty()
                      ? make_dense_layout(model_.config(), Tune::full)
                      : make_lora_layout(model_.config(),
                                         {.r = 3, .target_modules = GetParam().targets})),
          x_(random_adapter(layout_.size, 0.2, 11)) {
        if (!GetParam().targets.empty()) return;
        const std::vector<float> start = read_dense(layout_, model_.folder);
        for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = start[i] + 0.1F * x_[i];
    }

    fs::path folder_;
    LoadedModel model_;
    Layout layout_;
    std::vector<float> x_;
};

TEST_P(Recomputed, ResultsHaveTheSameBits) {
    const double dropout = is_dense(layout_) ? 0 : 0.2;
    for (const BackendKind backend : {BackendKind::guarded, BackendKind::guarded_bf16}) {
        const auto results = [&](Recompute recompute) {
            return compute(folder_, layout_, x_, tiny_batch(), {backend, recompute, dropout});
        };
        const Results kept = results(Recompute::none);
        expect_same(results(Recompute::light), kept);
        expect_same(results(Recompute::layer), kept);
    }
}

TEST_P(Recomputed, TakesLessMemory) {
    std::set<std::size_t> bytes;
    for (const Recompute recompute : {Recompute::none, Recompute::light, Recompute::layer}) {
        const Decoder decoder(model_.config(), model_.weights, layout_, *model_.backend, recompute);
        const std::size_t needed = decoder.activation_bytes({4096, 2048}, Pass::train);
        EXPECT_TRUE(bytes.empty() || needed < *bytes.begin());
        bytes.insert(needed);
    }
}

const std::vector<std::string> all_linear{"all-linear"};
const std::string three_layers =
    replaced(tiny_config(R"(, "attention_bias": true, "mlp_bias": true)"),
             R"("num_hidden_layers": 2)", R"("num_hidden_layers": 5)");

INSTANTIATE_TEST_SUITE_P(
    Models, Recomputed,
    testing::Values(
        Model{"all", three_layers, all_linear},
        Model{"from_the_third",
              three_layers,
              {"layers.2.mlp.down_proj", "layers.3.self_attn.v_proj", "layers.4.mlp.up_proj"}},
        Model{"full", three_layers, {}},
        Model{"qwen3", tiny_config(Architecture::qwen3, R"(, "head_dim": 10)"), all_linear}),
    [](const auto& model) { return std::string(model.param.name); });

/// Logits of a sequence that comes in parts.
std::vector<float> in_parts(Decoder& decoder, const LoadedModel& model,
                            const std::vector<std::int32_t>& tokens) {
    const std::vector<std::int64_t> capacity{static_cast<std::int64_t>(tokens.size())}, which{0};
    KvCache cache(model.config(), *model.backend, decoder.activation_dtype(), capacity);
    std::vector<float> all;
    for (const auto& [first, last] : {std::pair{0, 7}, {7, 8}, {8, 12}}) {
        PackedBatch batch;
        for (std::int32_t t = first; t < last; ++t) {
            batch.target_rows.push_back(batch.rows());
            batch.row_counter.push_back(batch.rows());
            batch.tokens.push_back(tokens[static_cast<std::size_t>(t)]);
            batch.positions.push_back(t);
        }
        batch.targets.assign(batch.tokens.size(), 0);
        batch.target_weight.assign(batch.tokens.size(), 0);
        batch.sequence_begin.push_back(batch.rows());
        batch.slot_begin = {0, batch.rows()};
        const std::vector<float> logits = decoder.extend(batch, {}, cache, which);
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

TEST(CachedKeys, AreTheCpusInGuardedMemoryAndCloseInBf16) {
    const fs::path folder = write_tiny_model(fresh_folder("cached"));
    const std::vector<std::int32_t> tokens = random_tokens(12, 3);
    const Layout none;
    const auto logits = [&](BackendKind kind) {
        const LoadedModel model(folder, make_backend(kind));
        Decoder decoder(model.config(), model.weights, none, *model.backend);
        return in_parts(decoder, model, tokens);
    };
    const std::vector<float> cpu = logits(BackendKind::cpu);
    EXPECT_EQ(cpu, logits(BackendKind::guarded));
    const std::vector<float> half = logits(BackendKind::guarded_bf16);
    EXPECT_NE(cpu, half);
    EXPECT_LE(relative_distance(half, cpu), 2e-2);
}

}  // namespace
}  // namespace fedit::test
