// tests/model/model_config_test.cpp: both spellings of config.json, defaults, and what is refused.
#include "fedit/model/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tests/model/expect_fault.h"
#include "tests/model/tiny_model.h"

namespace fedit::test {
namespace {

ModelConfig parse(const std::string& text) {
    return parse_model_config(Json::parse(text, "config.json"));
}

/// The tiny config with one piece of text replaced.
std::string with(const std::string& from, const std::string& to) {
    std::string text = tiny_config();
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
}

TEST(ModelConfig, ReadsTheFieldsOfALlama) {
    const ModelConfig config = parse(tiny_config(R"(, "attention_bias": true, "mlp_bias": true)"));
    EXPECT_EQ(config.hidden_size, 24);
    EXPECT_EQ(config.intermediate_size, 40);
    EXPECT_EQ(config.layers, 2);
    EXPECT_EQ(config.heads, 4);
    EXPECT_EQ(config.kv_heads, 2);
    EXPECT_EQ(config.head_dim, 6);  // hidden / heads
    EXPECT_EQ(config.vocab_size, 50);
    EXPECT_EQ(config.max_positions, 64);
    EXPECT_DOUBLE_EQ(config.rms_norm_eps, 1e-5);
    EXPECT_DOUBLE_EQ(config.initializer_range, 0.3);
    EXPECT_TRUE(config.attention_bias);
    EXPECT_TRUE(config.mlp_bias);
    EXPECT_FALSE(config.tied_head);
    EXPECT_EQ(config.rope.type, RopeType::standard);
}

TEST(ModelConfig, AssumesWhatTransformersAssumes) {
    const ModelConfig config = parse(
        R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 9, "head_dim": null})");
    EXPECT_EQ(config.kv_heads, 4);
    EXPECT_EQ(config.head_dim, 16);
    EXPECT_DOUBLE_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_DOUBLE_EQ(config.rope.theta, 10000);
    EXPECT_EQ(config.max_positions, 2048);
    EXPECT_FALSE(config.tied_head);
}

TEST(ModelConfig, BothSpellingsOfRopeMeanTheSame) {
    const ModelConfig older = parse(
        with(R"("rope_theta": 10000.0)",
             R"("rope_theta": 5e5, "torch_dtype": "bfloat16", "rope_scaling": {"type": "llama3",
           "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
           "original_max_position_embeddings": 32})"));
    const ModelConfig newer = parse(
        with(R"("rope_theta": 10000.0)",
             R"("dtype": "bfloat16", "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5,
           "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 32})"));
    EXPECT_EQ(older.rope.type, RopeType::llama3);
    EXPECT_EQ(rope_inverse_frequencies(older), rope_inverse_frequencies(newer));
    EXPECT_EQ(older.rope.original_max_positions, 32);
    EXPECT_DOUBLE_EQ(newer.rope.theta, 5e5);
}

TEST(ModelConfig, IgnoresFieldsThatChangeNothing) {
    EXPECT_NO_THROW(parse(tiny_config(
        R"(, "use_cache": true, "bos_token_id": 1, "transformers_version": "5.23.0",
            "pretraining_tp": 1, "attention_dropout": 0.0, "rope_scaling": null,
            "pad_token_id": null, "sliding_window": null, "some_note": "mine")")));
}

TEST(ModelConfig, CountsParameters) {
    const ModelConfig config = parse(tiny_config(R"(, "attention_bias": true)"));
    std::int64_t counted = 0;
    for (const TensorSpec& spec : expected_tensors(config)) {
        std::int64_t size = 1;
        for (const std::int64_t extent : spec.shape) size *= extent;
        counted += size;
    }
    EXPECT_EQ(config.parameters(), counted);
    // Two layers of q, o (24 x 24), k, v (12 x 24), and three of 40 x 24.
    EXPECT_EQ(config.layer_weights(), 2 * (2 * 576 + 2 * 288 + 3 * 960));
}

TEST(RopeFrequencies, FollowTheirFormulas) {
    ModelConfig config;
    config.head_dim = 8;
    const std::vector<float> plain = rope_inverse_frequencies(config);
    ASSERT_EQ(plain.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_FLOAT_EQ(plain[i], static_cast<float>(std::pow(10.0, -static_cast<double>(i))));
    }
    config.rope = {.type = RopeType::linear, .theta = 10000, .factor = 4};
    EXPECT_FLOAT_EQ(rope_inverse_frequencies(config)[1], 0.1F / 4);

    // Wavelengths 2 pi / inv = 6.3, 63, 628, 6283. With 512 positions and factors 1 and 4: kept
    // below 128, divided by 8 above 512.
    config.rope = {.type = RopeType::llama3,
                   .theta = 10000,
                   .factor = 8,
                   .low_freq_factor = 1,
                   .high_freq_factor = 4,
                   .original_max_positions = 512};
    const std::vector<float> scaled = rope_inverse_frequencies(config);
    EXPECT_FLOAT_EQ(scaled[0], 1.0F);
    EXPECT_FLOAT_EQ(scaled[1], 0.1F);
    EXPECT_FLOAT_EQ(scaled[2], 0.01F / 8);
    config.rope.original_max_positions = 1024;  // now the third lies between 256 and 1024
    const double t = (1024 * 0.01 / (2 * std::numbers::pi) - 1) / 3;
    EXPECT_FLOAT_EQ(rope_inverse_frequencies(config)[2],
                    static_cast<float>(0.01 * ((1 - t) / 8 + t)));
}

struct BadConfig {
    const char* name;
    std::string text;
    std::vector<std::string> message;
};
void PrintTo(const BadConfig& bad, std::ostream* out) {
    *out << bad.name;
}

class BadConfigs : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigs, AreRefusedByName) {
    expect_refused([] { parse(GetParam().text); }, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Fields, BadConfigs,
    testing::Values(
        BadConfig{
            "Architecture",
            with("LlamaForCausalLM", "GPT2LMHeadModel"),
            {"architectures", "GPT2LMHeadModel", "supported: LlamaForCausalLM", "config.json"}},
        BadConfig{"LaterArchitecture",
                  with("LlamaForCausalLM", "MistralForCausalLM"),
                  {"architectures", "MistralForCausalLM", "supported: LlamaForCausalLM"}},
        BadConfig{"ModelType",
                  with(R"("model_type": "llama")", R"("model_type": "qwen2")"),
                  {"model_type", "qwen2", "llama"}},
        BadConfig{
            "NoArchitecture", R"({"hidden_size": 64})", {"neither architectures nor model_type"}},
        BadConfig{"NotAnObject", "[1, 2]", {"must be a JSON object", "[1,2]"}},
        BadConfig{"MissingSize", with(R"("hidden_size": 24,)", ""), {"hidden_size", "config.json"}},
        BadConfig{
            "SizeOfZero", with(R"("vocab_size": 50)", R"("vocab_size": 0)"), {"vocab_size", "0"}},
        BadConfig{
            "SizeAsText", with(R"("vocab_size": 50)", R"("vocab_size": "50")"), {"vocab_size"}},
        BadConfig{"Heads",
                  with(R"("num_attention_heads": 4)", R"("num_attention_heads": 5)"),
                  {"num_attention_heads = 5", "num_key_value_heads = 2"}},
        BadConfig{"HiddenPerHead",
                  with(R"("hidden_size": 24)", R"("hidden_size": 26)"),
                  {"hidden_size = 26", "num_attention_heads = 4", "head_dim"}},
        BadConfig{"OddHead", tiny_config(R"(, "head_dim": 7)"), {"head_dim = 7 is odd"}},
        BadConfig{"Activation",
                  tiny_config(R"(, "hidden_act": "gelu")"),
                  {"hidden_act = \"gelu\"", "supported: silu"}},
        BadConfig{"Quantized",
                  tiny_config(R"(, "quantization_config": {"bits": 4})"),
                  {"quantization_config", "bits", "supported: null or absent"}},
        BadConfig{"TensorParallel",
                  tiny_config(R"(, "pretraining_tp": 2)"),
                  {"pretraining_tp = 2", "supported: 1"}},
        BadConfig{"AttentionDropout",
                  tiny_config(R"(, "attention_dropout": 0.1)"),
                  {"attention_dropout = 0.1", "supported: 0"}},
        BadConfig{
            "SlidingWindow", tiny_config(R"(, "sliding_window": 4096)"), {"sliding_window = 4096"}},
        BadConfig{"Experts", tiny_config(R"(, "num_local_experts": 8)"), {"num_local_experts = 8"}},
        BadConfig{"LayerTypes",
                  tiny_config(R"(, "layer_types": ["full_attention", "sliding_attention"])"),
                  {"sliding_attention", "supported: full_attention"}},
        BadConfig{"Epsilon", with("1e-05", "-1"), {"rms_norm_eps = -1", "above 0"}},
        BadConfig{"RopeType",
                  tiny_config(R"(, "rope_scaling": {"rope_type": "longrope", "factor": 2})"),
                  {"rope type \"longrope\"", "rope_scaling.rope_type",
                   "supported: default, linear, llama3"}},
        BadConfig{"RopeFactor",
                  tiny_config(R"(, "rope_scaling": {"type": "linear"})"),
                  {"factor", "rope_scaling"}},
        BadConfig{"RopeBands",
                  tiny_config(R"(, "rope_scaling": {"type": "llama3", "factor": 8,
                     "low_freq_factor": 4, "high_freq_factor": 1,
                     "original_max_position_embeddings": 8})"),
                  {"high_freq_factor = 1 must be above 4"}},
        BadConfig{"RopeField",
                  tiny_config(R"(, "rope_scaling": {"type": "linear", "factor": 8, "mscale": 2})"),
                  {"mscale = 2"}},
        BadConfig{"PartialRotary",
                  tiny_config(R"(, "partial_rotary_factor": 0.5)"),
                  {"partial_rotary_factor = 0.5"}},
        BadConfig{"TwoRopes",
                  tiny_config(R"(, "rope_scaling": {"type": "linear", "factor": 2},
                     "rope_parameters": {"rope_type": "default"})"),
                  {"rope_scaling and rope_parameters are both given"}},
        BadConfig{"TwoThetas",
                  tiny_config(R"(, "rope_parameters": {"rope_type": "default", "rope_theta": 5})"),
                  {"rope_theta = 10000", "rope_theta = 5"}}),
    [](const testing::TestParamInfo<BadConfig>& bad) { return std::string(bad.param.name); });

TEST(ModelConfig, TellsAllFaultsAtOnce) {
    const std::size_t faults = expect_refused(
        [] {
            parse(R"({"architectures": ["BertModel"], "hidden_size": -1, "num_hidden_layers": 2,
                 "num_attention_heads": 2, "vocab_size": 8, "hidden_act": "relu",
                 "pretraining_tp": 4, "rope_scaling": {"type": "yarn", "factor": 2}})");
        },
        {"BertModel", "hidden_size", "intermediate_size", "relu", "pretraining_tp", "yarn"});
    EXPECT_EQ(faults, 6U);
}

}  // namespace
}  // namespace fedit::test
