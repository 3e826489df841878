// tests/model/model_config_test.cpp: both spellings of config.json, defaults, and what is refused.
#include "fedit/model/model_config.h"

#include <gtest/gtest.h>

#include <array>
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
    return replaced(tiny_config(), from, to);
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
    EXPECT_TRUE(config.qkv_bias);
    EXPECT_TRUE(config.o_bias);
    EXPECT_TRUE(config.mlp_bias);
    EXPECT_FALSE(config.qk_norm);
    EXPECT_EQ(config.window(0), 0);
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

TEST(ModelConfig, ReadsAMistralWithAndWithoutItsWindow) {
    const auto mistral = [](const std::string& extra) {
        return parse(tiny_config(Architecture::mistral, extra));
    };
    const ModelConfig config = mistral(
        R"(, "sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention"])");
    EXPECT_EQ(config.architecture, Architecture::mistral);
    EXPECT_EQ(config.windows, (std::vector<std::int64_t>{8, 8}));
    EXPECT_FALSE(config.qkv_bias || config.o_bias || config.mlp_bias);
    EXPECT_EQ(mistral(R"(, "sliding_window": null)").window(1), 0);
    EXPECT_EQ(mistral("").window(0), 4096) << "what Transformers assumes";
}

TEST(ModelConfig, ReadsAQwen2WithItsBiasesAndTheWindowsOfItsUpperLayers) {
    const auto qwen = [](const std::string& extra) {
        return parse(tiny_config(Architecture::qwen2, extra));
    };
    const ModelConfig config = qwen(R"(, "sliding_window": 8, "attention_bias": false)");
    EXPECT_TRUE(config.qkv_bias);
    EXPECT_FALSE(config.o_bias);
    EXPECT_EQ(config.window(1), 0) << "use_sliding_window is false where it is absent";
    const std::string on = R"(, "use_sliding_window": true, "sliding_window": 8)";
    EXPECT_EQ(qwen(on).windows, (std::vector<std::int64_t>{0, 0})) << "28 layers have none";
    EXPECT_EQ(qwen(on + R"(, "max_window_layers": 1)").windows, (std::vector<std::int64_t>{0, 8}));
    EXPECT_EQ(qwen(on + R"(, "max_window_layers": 1,
                            "layer_types": ["sliding_attention", "full_attention"])")
                  .windows,
              (std::vector<std::int64_t>{8, 0}));
    EXPECT_EQ(qwen(R"(, "use_sliding_window": true, "sliding_window": null,
                        "max_window_layers": 0)")
                  .window(0),
              0);
}

TEST(ModelConfig, ReadsAQwen3WithNormsAndABiasOnlyWhereAFieldSaysSo) {
    const ModelConfig plain = parse(tiny_config(Architecture::qwen3, ""));
    EXPECT_TRUE(plain.qk_norm);
    EXPECT_FALSE(plain.qkv_bias || plain.o_bias);
    EXPECT_EQ(plain.head_dim, 128) << "what Transformers assumes";
    const ModelConfig biased =
        parse(tiny_config(Architecture::qwen3, R"(, "head_dim": 10, "attention_bias": true)"));
    EXPECT_TRUE(biased.qkv_bias && biased.o_bias);
    EXPECT_EQ(biased.head_dim, 10);
}

TEST(ModelConfig, ModelTypeAloneNamesTheArchitecture) {
    const std::string config = with(R"("architectures": ["LlamaForCausalLM"], )", "");
    EXPECT_EQ(parse(replaced(config, "llama", "qwen3")).architecture, Architecture::qwen3);
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
    const auto counted = [](const ModelConfig& config) {
        std::int64_t sum = 0;
        for (const TensorSpec& spec : expected_tensors(config)) {
            std::int64_t size = 1;
            for (const std::int64_t extent : spec.shape) size *= extent;
            sum += size;
        }
        return sum;
    };
    for (const auto architecture :
         {Architecture::llama, Architecture::mistral, Architecture::qwen2, Architecture::qwen3}) {
        const ModelConfig config = parse(tiny_config(architecture, ""));
        EXPECT_EQ(config.parameters(), counted(config)) << to_string(architecture);
    }
    const ModelConfig config = parse(tiny_config(R"(, "attention_bias": true)"));
    EXPECT_EQ(config.parameters(), counted(config));
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

struct RopeCase {
    const char* name;
    const char* rope;  ///< the object, for a model of head_dim 16 and 4096 positions
    std::int64_t length;
    std::array<double, 8> frequencies;
    double scale;
};
void PrintTo(const RopeCase& rope, std::ostream* out) {
    *out << rope.name;
}

class RopeScaling : public testing::TestWithParam<RopeCase> {};

TEST_P(RopeScaling, FrequenciesAreThoseOfTransformers) {
    const RopeCase& want = GetParam();
    const ModelConfig config = parse(replaced(
        replaced(tiny_config(R"(, "head_dim": 16, "rope_parameters": )" + std::string(want.rope)),
                 R"("max_position_embeddings": 64)", R"("max_position_embeddings": 4096)"),
        R"("rope_theta": 10000.0, )", ""));
    const std::vector<float> got = rope_inverse_frequencies(config, want.length);
    ASSERT_EQ(got.size(), want.frequencies.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        // Transformers computes them in fp32, with some 5 roundings each.
        EXPECT_NEAR(got[i], want.frequencies[i], 5e-7 * want.frequencies[i]) << i;
    }
    EXPECT_DOUBLE_EQ(config.rope.attention_scale, want.scale);
}

// Numbers of Transformers 5.23, ROPE_INIT_FUNCTIONS.
constexpr const char* dynamic_rope = R"({"rope_type": "dynamic", "factor": 2})";
constexpr std::array<double, 8> plain{1,
                                      0.316227764,
                                      0.100000001,
                                      0.0316227786,
                                      0.00999999978,
                                      0.00316227786,
                                      0.00100000005,
                                      0.000316227786};
constexpr std::array<double, 8> yarn{1,
                                     0.247052938,
                                     0.0562500022,
                                     0.01087033,
                                     0.00124999997,
                                     0.000395284733,
                                     0.000125000006,
                                     3.95284733e-05};
INSTANTIATE_TEST_SUITE_P(
    Cases, RopeScaling,
    testing::Values(
        RopeCase{"DynamicShort", dynamic_rope, 100, plain, 1},
        RopeCase{"DynamicFull", dynamic_rope, 4096, plain, 1},
        RopeCase{"DynamicOneMore",
                 dynamic_rope,
                 4097,
                 {1, 0.31620571, 0.0999860615, 0.0316161625, 0.0099972114, 0.00316117518,
                  0.000999581767, 0.000316073449},
                 1},
        RopeCase{"DynamicLong",
                 dynamic_rope,
                 20000,
                 {1, 0.231908545, 0.053781569, 0.0124724042, 0.00289245695, 0.000670785492,
                  0.000155560876, 3.60758968e-05},
                 1},
        RopeCase{"Yarn",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512})",
                 0, yarn, 1.2079441541679836},
        RopeCase{"YarnNotTruncated",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                     "truncate": false})",
                 0,
                 {1, 0.298936278, 0.0654650778, 0.0115101226, 0.00124999997, 0.000395284733,
                  0.000125000006, 3.95284733e-05},
                 1.2079441541679836},
        RopeCase{"YarnBetas",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                     "beta_fast": 16, "beta_slow": 2})",
                 0,
                 {1, 0.316227764, 0.0708333328, 0.0131761581, 0.00124999997, 0.000395284733,
                  0.000125000006, 3.95284733e-05},
                 1.2079441541679836},
        RopeCase{"YarnAttentionFactor",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                     "attention_factor": 0.75})",
                 0, yarn, 0.75},
        RopeCase{"YarnMscale",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                     "mscale": 0.707, "mscale_all_dim": 1})",
                 0, yarn, 0.9495608824621653},
        RopeCase{"YarnMscaleAlone",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 512,
                     "mscale": 0.707})",
                 0, yarn, 1.2079441541679836},
        RopeCase{"YarnOfAModelThatWasNotExtended",
                 R"({"rope_type": "yarn", "factor": 4, "rope_theta": 1e6})",
                 0,
                 {1, 0.177827939, 0.023717083, 0.00281170662, 0.000250000012, 4.44569851e-05,
                  7.90569356e-06, 1.40585337e-06},
                 1.138629436111989},
        RopeCase{"YarnOfFactorOne",
                 R"({"rope_type": "yarn", "factor": 1, "original_max_position_embeddings": 512})",
                 0, plain, 1},
        RopeCase{"YarnOfFewPositions",
                 R"({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 8})",
                 0,
                 {1, 0.0395284705, 0.0125000002, 0.00395284733, 0.00124999997, 0.000395284733,
                  0.000125000006, 3.95284733e-05},
                 1.2079441541679836}),
    [](const testing::TestParamInfo<RopeCase>& rope) { return std::string(rope.param.name); });

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
            {"architectures", "GPT2LMHeadModel", "supported: LlamaForCausalLM (model_type llama), ",
             "Qwen3ForCausalLM (model_type qwen3)", "config.json"}},
        BadConfig{"TwoArchitectures",
                  with("LlamaForCausalLM", R"(LlamaForCausalLM", "MistralForCausalLM)"),
                  {"architectures", "MistralForCausalLM", "supported"}},
        BadConfig{"ModelType",
                  with(R"("model_type": "llama")", R"("model_type": "gemma")"),
                  {"model_type = \"gemma\"", "supported", "llama"}},
        BadConfig{"Contradiction",
                  with(R"("model_type": "llama")", R"("model_type": "qwen2")"),
                  {"LlamaForCausalLM", "model_type = \"qwen2\" contradict"}},
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
        BadConfig{"WindowOfALlama",
                  tiny_config(R"(, "sliding_window": 4096)"),
                  {"sliding_window = 4096"}},
        BadConfig{"WindowOfZero",
                  tiny_config(Architecture::mistral, R"(, "sliding_window": 0)"),
                  {"sliding_window", "0"}},
        BadConfig{"WindowAsText",
                  tiny_config(Architecture::mistral, R"(, "sliding_window": "8")"),
                  {"sliding_window", "\"8\""}},
        BadConfig{"WindowSwitchedOff",
                  tiny_config(Architecture::mistral,
                              R"(, "sliding_window": 8, "use_sliding_window": false)"),
                  {"use_sliding_window = false", "MistralForCausalLM", "sliding_window to null"}},
        BadConfig{"WindowOfSomeLayers",
                  tiny_config(Architecture::mistral,
                              R"(, "sliding_window": 8,
                                 "layer_types": ["full_attention", "sliding_attention"])"),
                  {"layer_types", "MistralForCausalLM", "sliding_window = 8", "every layer"}},
        BadConfig{"BiasOfAMistral",
                  tiny_config(Architecture::mistral, R"(, "attention_bias": true)"),
                  {"attention_bias = true", "false or absent"}},
        BadConfig{"BiasOfAnMlp",
                  tiny_config(Architecture::qwen2, R"(, "mlp_bias": true)"),
                  {"mlp_bias = true", "false or absent"}},
        BadConfig{"SlidingLayersWithoutAWindow",
                  tiny_config(Architecture::qwen3,
                              R"(, "layer_types": ["full_attention", "sliding_attention"])"),
                  {"sliding_attention", "without a window", "layer_types"}},
        BadConfig{"TooFewLayerTypes",
                  tiny_config(Architecture::qwen2, R"(, "layer_types": ["full_attention"])"),
                  {"layer_types", "2 layers"}},
        BadConfig{"WindowLayers",
                  tiny_config(Architecture::qwen2,
                              R"(, "use_sliding_window": true, "max_window_layers": -1)"),
                  {"max_window_layers", "-1"}},
        BadConfig{"Experts", tiny_config(R"(, "num_local_experts": 8)"), {"num_local_experts = 8"}},
        BadConfig{"LayerTypes",
                  tiny_config(R"(, "layer_types": ["full_attention", "sliding_attention"])"),
                  {"sliding_attention", "supported: full_attention"}},
        BadConfig{"Epsilon", with("1e-05", "-1"), {"rms_norm_eps = -1", "above 0"}},
        BadConfig{"RopeType",
                  tiny_config(R"(, "rope_scaling": {"rope_type": "longrope", "factor": 2})"),
                  {"rope type \"longrope\"", "rope_scaling.rope_type",
                   "supported: default, linear, dynamic, llama3, yarn"}},
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
                  {"mscale = 2", "of type linear", "its fields: factor"}},
        BadConfig{"RopeFieldOfAnotherType",
                  tiny_config(R"(, "rope_scaling": {"type": "dynamic", "factor": 8,
                     "original_max_position_embeddings": 8})"),
                  {"original_max_position_embeddings = 8", "of type dynamic"}},
        BadConfig{"YarnBetas",
                  tiny_config(R"(, "rope_scaling": {"type": "yarn", "factor": 8, "beta_fast": 1,
                     "beta_slow": 4})"),
                  {"beta_fast = 1 is below beta_slow = 4"}},
        BadConfig{"YarnAttention",
                  tiny_config(R"(, "rope_scaling": {"type": "yarn", "factor": 8,
                     "attention_factor": -1})"),
                  {"attention_factor = -1 must be above 0"}},
        BadConfig{"YarnTruncate",
                  tiny_config(R"(, "rope_scaling": {"type": "yarn", "factor": 8, "truncate": 1})"),
                  {"truncate", "1"}},
        BadConfig{"YarnPositions",
                  tiny_config(R"(, "original_max_position_embeddings": 16, "rope_scaling": {
                     "type": "yarn", "factor": 8, "original_max_position_embeddings": 32})"),
                  {"original_max_position_embeddings = 16", "= 32 differ"}},
        BadConfig{"PartialRotary",
                  tiny_config(R"(, "partial_rotary_factor": 0.5)"),
                  {"partial_rotary_factor = 0.5"}},
        BadConfig{"TwoRopes",
                  tiny_config(R"(, "rope_scaling": {"type": "linear", "factor": 2},
                     "rope_parameters": {"rope_type": "default"})"),
                  {"rope_scaling and rope_parameters are both given"}},
        BadConfig{"WideHeads",
                  tiny_config(R"(, "head_dim": 65538)"),
                  {"65538 is out of range", "field head_dim"}},
        BadConfig{"ManyWideHeads",
                  with(R"("num_attention_heads": 4)",
                       R"("num_attention_heads": 16777216, "head_dim": 4)"),
                  {"16777216 heads of 4 elements are too large", "config.json"}},
        BadConfig{"ThetaThatOverflows",
                  with(R"("rope_theta": 10000.0)", R"("rope_theta": 1e-300)"),
                  {"no finite numbers", "field rope_theta"}},
        BadConfig{"FactorThatOverflows",
                  tiny_config(R"(, "rope_scaling": {"type": "linear", "factor": 1e-300})"),
                  {"no finite numbers", "field rope_scaling"}},
        BadConfig{"YarnWithoutScale",
                  tiny_config(R"(, "rope_scaling": {"type": "yarn", "factor": 2.718281828459045,
                     "original_max_position_embeddings": 8, "mscale": 1, "mscale_all_dim": -10})"),
                  {"no finite numbers", "field rope_scaling"}},
        BadConfig{"TwoThetas",
                  tiny_config(R"(, "rope_parameters": {"rope_type": "default", "rope_theta": 5})"),
                  {"rope_theta = 10000", "rope_theta = 5"}}),
    [](const testing::TestParamInfo<BadConfig>& bad) { return std::string(bad.param.name); });

TEST(ModelConfig, TellsAllFaultsAtOnce) {
    const std::size_t faults = expect_refused(
        [] {
            parse(R"({"architectures": ["BertModel"], "hidden_size": -1, "num_hidden_layers": 2,
                 "num_attention_heads": 2, "vocab_size": 8, "hidden_act": "relu",
                 "pretraining_tp": 4, "rope_scaling": {"type": "longrope", "factor": 2}})");
        },
        {"BertModel", "hidden_size", "intermediate_size", "relu", "pretraining_tp", "longrope"});
    EXPECT_EQ(faults, 6U);
}

}  // namespace
}  // namespace fedit::test
