// tests/model/merged_model_test.cpp: a merged model computes what base and adapter compute, in
// every type and number of shards.
#include "fedit/model/merged_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/model/expect_fault.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

double largest_difference(std::span<const float> a, std::span<const float> b) {
    double largest = a.size() == b.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        largest = std::max(largest, std::abs(double{a[i]} - b[i]));
    }
    return largest;
}

std::vector<float> base_logits(const fs::path& folder, const PackedBatch& batch) {
    const LoadedModel model(folder);
    const Layout none;
    return Decoder(model.config(), model.weights, none, *model.backend).logits(batch, {});
}

class MergedFixtures : public testing::TestWithParam<const char*> {};

TEST_P(MergedFixtures, LogitsAreThoseOfPeft) {
    const fs::path folder = shared_path("fixtures/lora") / GetParam();
    FEDIT_REQUIRE_SHARED(folder);
    const Json summary = Json::parse_file(folder / "expected.json");
    const HfFolder base(shared_path("fixtures/models") / summary["model"].as_string());
    const fs::path merged = fresh_folder("merged") / "model";

    write_merged_model(base, read_peft(folder / "adapter", base.config()),
                       {.type = StoredType::f32}, AtomicFile(), merged);

    const SafetensorsFile expected(folder / "expected.safetensors");
    const PackedBatch batch = fixture_batch(expected, "batch0.");
    // The fixtures' tolerance for fp32; merging rounds each weight once more.
    EXPECT_LE(largest_difference(base_logits(merged, batch), expected.read_floats("logits")), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, MergedFixtures,
                         testing::Values("llama-gqa.q", "llama-gqa.all",
                                         "llama-rope-linear-bias.all", "mistral-window.qkvo-rslora",
                                         "qwen2.ranks", "qwen3.all"));

class MergedModel : public testing::Test {
protected:
    MergedModel() { AtomicFile().write(base_ / "tokenizer.json", std::string_view("{}")); }

    void save(const SaveOptions& options) {
        const HfFolder base(base_);
        LoraConfig lora{.r = 2, .target_modules = {"q_proj", "down_proj"}};
        PeftAdapter adapter{lora, make_lora_layout(base.config(), lora), {}};
        adapter.x = random_adapter(adapter.layout.size, scale_, 3);
        write_merged_model(base, adapter, options, AtomicFile(), merged_);
    }
    std::vector<float> tensor(const std::string& name) const {
        const HfFolder folder(merged_);
        for (const TensorSpec& spec : expected_tensors(folder.config())) {
            if (spec.name != name) continue;
            std::int64_t size = 1;
            for (const std::int64_t extent : spec.shape) size *= extent;
            std::vector<float> values(static_cast<std::size_t>(size));
            folder.read(name, values);
            return values;
        }
        ADD_FAILURE() << name;
        return {};
    }

    fs::path base_ = write_tiny_model(fresh_folder("merge") / "base",
                                      tiny_config(R"(, "dtype": "float32", "note": [1, 2.5])"));
    fs::path merged_ = base_.parent_path() / "merged";
    double scale_ = 0.1;
};

TEST_F(MergedModel, ShardsHoldTheSameBitsAsOneFile) {
    save({});
    EXPECT_TRUE(fs::exists(merged_ / "model.safetensors"));
    EXPECT_TRUE(fs::exists(merged_ / "tokenizer.json"));
    const std::string whole = HfFolder(merged_).fingerprint();
    save({.shard_bytes = 12000});
    EXPECT_EQ(HfFolder(merged_).fingerprint(), whole);
    EXPECT_FALSE(fs::exists(merged_ / "model.safetensors"));
    const Json index = Json::parse_file(merged_ / "model.safetensors.index.json");
    EXPECT_EQ(index["metadata"]["total_size"].as_int(),
              4 * HfFolder(merged_).config().parameters());
    std::set<std::string> files;
    for (const std::string& name : index["weight_map"].keys()) {
        files.insert(index["weight_map"][name].as_string());
    }
    EXPECT_GE(files.size(), 3U);
    const std::string count = "0000" + std::to_string(files.size());
    EXPECT_EQ(*files.begin(), "model-00001-of-" + count + ".safetensors");
    for (const std::string& file : files) {
        EXPECT_LE(fs::file_size(merged_ / file), 12000U + 4096U) << "tensors and their names";
    }
    EXPECT_EQ(static_cast<std::size_t>(std::distance(fs::directory_iterator(merged_), {})),
              files.size() + 3)
        << "config.json, the index and the tokenizer besides";
}

TEST_F(MergedModel, ATypeIsRoundedToOnceAndNamedInTheConfig) {
    save({});
    const std::string names[] = {"model.layers.1.mlp.down_proj.weight", "model.norm.weight"};
    std::vector<float> exact[2];
    for (int i = 0; i < 2; ++i) exact[i] = tensor(names[i]);
    struct Type {
        StoredType type;
        const char* dtype;
        float (*rounded)(float);
    };
    for (const Type& type :
         {Type{StoredType::bf16, "bfloat16",
               [](float x) { return bf16_to_float(float_to_bf16(x)); }},
          Type{StoredType::f16, "float16", [](float x) { return f16_to_float(float_to_f16(x)); }},
          Type{StoredType::f32, "float32", [](float x) { return x; }}}) {
        save({.type = type.type});
        for (int i = 0; i < 2; ++i) {
            std::vector<float> want = exact[i];
            for (float& value : want) value = type.rounded(value);
            EXPECT_EQ(tensor(names[i]), want) << type.dtype << " " << names[i];
        }
        const Json config = Json::parse_file(merged_ / "config.json");
        EXPECT_EQ(config["dtype"].as_string(), type.dtype);
        EXPECT_EQ(config["note"].dump(), "[1,2.5]") << "other fields stay";
        EXPECT_EQ(HfFolder(merged_).type(names[0]), type.type);
    }
}

TEST_F(MergedModel, RefusesAWeightThatTheTypeCannotHoldAndLeavesNothing) {
    scale_ = 1e3;
    const std::size_t faults =
        expect_refused([&] { save({.type = StoredType::f16}); },
                       {"which F16 cannot hold", "65504", "_proj.weight", "element", "wider type"});
    EXPECT_EQ(faults, 1U);
    EXPECT_FALSE(fs::exists(merged_));
    EXPECT_EQ(std::distance(fs::directory_iterator(merged_.parent_path()), {}), 1) << "the base";
}

TEST(MergedTiedModel, KeepsOneTensorForEmbeddingAndHead) {
    const fs::path folder = fresh_folder("merge_tied");
    const HfFolder base(
        write_tiny_model(folder / "base", replaced(tiny_config(), R"("tie_word_embeddings": false)",
                                                   R"("tie_word_embeddings": true)")));
    write_merged_model(base, {}, {}, AtomicFile(), folder / "merged");
    const HfFolder merged(folder / "merged");
    EXPECT_FALSE(merged.has("lm_head.weight"));
    EXPECT_EQ(merged.fingerprint(), base.fingerprint()) << "without an adapter nothing changes";
}

}  // namespace
}  // namespace fedit::test
