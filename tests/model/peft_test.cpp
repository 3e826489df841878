// tests/model/peft_test.cpp: PEFT adapter folders there and back, and those that are refused.
#include "fedit/model/peft.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/model/expect_fault.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

ModelConfig tiny() {
    return parse_model_config(Json::parse(tiny_config(), "config.json"));
}

class PeftTest : public testing::Test {
protected:
    void write(const LoraConfig& lora, const std::vector<float>& x) {
        const Layout layout = make_lora_layout(tiny(), lora);
        AtomicFile().write_folder(folder_, encode_peft(layout, x, lora, "models/tiny"));
    }
    /// Replaces text in adapter_config.json.
    void edit(const std::string& from, const std::string& to) {
        std::string text = read_text_file(folder_ / "adapter_config.json");
        const std::size_t at = text.find(from);
        ASSERT_NE(at, std::string::npos) << from << " in " << text;
        AtomicFile().write(folder_ / "adapter_config.json",
                           std::string_view(text.replace(at, from.size(), to)));
    }
    std::size_t refused(const std::vector<std::string>& message) {
        return expect_refused([&] { read_peft(folder_, tiny()); }, message);
    }

    fs::path folder_ = fresh_folder("adapters") / "one";
    LoraConfig lora_{.r = 3, .alpha = 6, .dropout = 0.05, .target_modules = {"q_proj", "up_proj"}};
    std::vector<float> x_ = random_adapter(make_lora_layout(tiny(), lora_).size, 1, 2);
};

TEST_F(PeftTest, WhatIsWrittenReadsBackTheSame) {
    write(lora_, x_);
    const PeftAdapter back = read_peft(folder_, tiny());
    EXPECT_EQ(back.x, x_);
    EXPECT_EQ(back.layout, make_lora_layout(tiny(), lora_));
    EXPECT_EQ(back.config.r, 3);
    EXPECT_EQ(back.config.alpha, 6);
    EXPECT_EQ(back.config.dropout, 0.05);
    EXPECT_EQ(back.config.target_modules, lora_.target_modules);
    EXPECT_FALSE(back.config.use_rslora);
}

TEST_F(PeftTest, WritesPeftsNamesAndFields) {
    lora_.use_rslora = true;
    write(lora_, x_);
    const SafetensorsFile file(folder_ / "adapter_model.safetensors");
    EXPECT_EQ(file.tensors().size(), 8U);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    const auto& a = file.tensor("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight");
    EXPECT_EQ(a.shape, (std::vector<std::int64_t>{3, 24}));
    EXPECT_TRUE(file.has("base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"));
    const Json config = Json::parse_file(folder_ / "adapter_config.json");
    EXPECT_EQ(config["peft_type"].as_string(), "LORA");
    EXPECT_EQ(config["task_type"].as_string(), "CAUSAL_LM");
    EXPECT_EQ(config["base_model_name_or_path"].as_string(), "models/tiny");
    EXPECT_EQ(config["lora_alpha"].dump(), "6");
    EXPECT_TRUE(config["use_rslora"].as_bool());
    EXPECT_TRUE(config["rank_pattern"].is_object());
}

TEST_F(PeftTest, AllLinearAsOneWordIsEveryLinearLayer) {
    lora_.target_modules = {"all-linear"};
    write(lora_, random_adapter(make_lora_layout(tiny(), lora_).size, 1, 2));
    const Json config = Json::parse_file(folder_ / "adapter_config.json");
    EXPECT_EQ(config["target_modules"].as_string(), "all-linear");
    EXPECT_EQ(read_peft(folder_, tiny()).layout.modules.size(), 14U);
}

TEST_F(PeftTest, ReadsWhatPeftItselfWrote) {
    const fs::path folder = shared_path("fixtures/lora/llama-gqa.all/adapter");
    FEDIT_REQUIRE_SHARED(folder);
    const ModelConfig model =
        parse_model_config(Json::parse_file(shared_path("fixtures/models/llama-gqa/config.json")));
    const PeftAdapter adapter = read_peft(folder, model);
    EXPECT_EQ(adapter.config.r, 4);
    ASSERT_EQ(adapter.layout.modules.size(), 14U);
    EXPECT_EQ(adapter.layout.modules[0].scale, 2);
}

TEST_F(PeftTest, RefusesWhatItWouldComputeWrongly) {
    write(lora_, x_);
    edit(R"("use_dora": false)", R"("use_dora": true)");
    refused({"use_dora = true", "adapter_config.json", "plain LoRA"});
    edit(R"("use_dora": true)", R"("use_dora": false, "brand_new_feature": {"on": 1})");
    refused({"brand_new_feature"});
    edit(R"("brand_new_feature": {"on": 1})", R"("lora_bias": false)");
    EXPECT_NO_THROW(read_peft(folder_, tiny()));
}

struct BadField {
    const char* from;
    const char* to;
    std::vector<std::string> message;
};

TEST_F(PeftTest, RefusesEachFieldThatIsNotHonoured) {
    const std::vector<BadField> fields{
        {R"("bias": "none")", R"("bias": "lora_only")", {"bias = \"lora_only\"", "\"none\""}},
        {R"("rank_pattern": {})", R"("rank_pattern": {"q_proj": 0})", {"rank_pattern.q_proj", "0"}},
        {R"("rank_pattern": {})", R"("rank_pattern": [2])", {"rank_pattern", "[2]"}},
        {R"("rank_pattern": {})",
         R"("rank_pattern": {"(q_proj": 2})",
         {"\"(q_proj\" is no regular expression", "adapter_config.json, field rank_pattern"}},
        {R"("alpha_pattern": {})", R"("alpha_pattern": {"q_proj": "x"})", {"alpha_pattern", "x"}},
        {R"("revision": null)", R"("exclude_modules": ["k_proj"])", {"exclude_modules"}},
        {R"("revision": null)", R"("target_parameters": ["q_proj.weight"])", {"target_parameters"}},
        {R"("revision": null)", R"("lora_bias": true)", {"lora_bias = true"}},
        {R"("revision": null)", R"("layer_replication": [[0, 2]])", {"layer_replication"}},
        {R"("revision": null)", R"("trainable_token_indices": [3])", {"trainable_token_indices"}},
        {R"("revision": null)", R"("use_qalora": true)", {"use_qalora = true"}},
        {R"("modules_to_save": null)", R"("modules_to_save": ["lm_head"])", {"modules_to_save"}},
        {R"("fan_in_fan_out": false)", R"("fan_in_fan_out": true)", {"fan_in_fan_out = true"}},
        {R"("revision": null)", R"("layers_to_transform": [1])", {"layers_to_transform"}},
        {R"("peft_type": "LORA")", R"("peft_type": "IA3")", {"peft_type", "IA3", "LORA"}},
        {R"("task_type": "CAUSAL_LM")", R"("task_type": "SEQ_CLS")", {"SEQ_CLS", "CAUSAL_LM"}},
        {R"("init_lora_weights": true)", R"("init_lora_weights": "pissa")", {"pissa"}},
        {R"("r": 3)", R"("r": 0)", {"adapter_config.json", "field r"}},
        {R"("r": 3)", R"("r": 1048577)", {"1048577 is out of range", "field r"}},
        {R"("rank_pattern": {})",
         R"("rank_pattern": {"(.*.*.*)*_": 2})",
         {"cannot be decided", "simplify the regular expression"}},
        {R"("lora_alpha": 6)", R"("lora_alpha": "six")", {"lora_alpha"}},
        {R"("lora_dropout": 0.05)", R"("lora_dropout": 1.5)", {"dropout 1.5"}},
        {R"("q_proj")", R"("c_attn")", {"\"c_attn\" matches no linear layer", "q_proj"}},
    };
    for (const BadField& field : fields) {
        SCOPED_TRACE(field.to);
        write(lora_, x_);
        edit(field.from, field.to);
        refused(field.message);
    }
}

TEST_F(PeftTest, PatternsAndARegularExpressionReadBackTheSame) {
    lora_ = {.r = 3,
             .alpha = 6,
             .dropout = 0,
             .target_modules = {},
             .use_rslora = true,
             .target_pattern = R"(.*\.(q|up)_proj)",
             .rank_pattern = {{"layers.1.mlp.up_proj", 5}, {"q_proj", 2}},
             .alpha_pattern = {{"q_proj", 1.5}, {"up_proj", 4}}};
    const Layout layout = make_lora_layout(tiny(), lora_);
    write(lora_, random_adapter(layout.size, 1, 2));
    const PeftAdapter back = read_peft(folder_, tiny());
    EXPECT_EQ(back.config, lora_);
    EXPECT_EQ(back.layout, layout);
    const Json config = Json::parse_file(folder_ / "adapter_config.json");
    EXPECT_EQ(config["target_modules"].as_string(), R"(.*\.(q|up)_proj)");
    EXPECT_EQ(config["rank_pattern"].dump(), R"({"layers.1.mlp.up_proj":5,"q_proj":2})");
    EXPECT_EQ(config["alpha_pattern"].dump(), R"({"q_proj":1.5,"up_proj":4})");
}

TEST_F(PeftTest, RefusesARegularExpressionThatIsNone) {
    lora_.target_modules = {"all-linear"};
    write(lora_, random_adapter(make_lora_layout(tiny(), lora_).size, 1, 2));
    edit(R"("all-linear")", R"("*_proj")");
    refused({"\"*_proj\" is no regular expression", "adapter_config.json, field target_modules"});
    edit(R"("*_proj")", R"("All-Linear")");
    EXPECT_EQ(read_peft(folder_, tiny()).layout.modules.size(), 14U);
    edit(R"("All-Linear")", "7");
    refused({"target_modules = 7", "a regular expression"});
}

TEST_F(PeftTest, RefusesTensorsOfAnotherModelAllAtOnce) {
    write(lora_, x_);
    edit(R"("r": 3)", R"("r": 2)");
    EXPECT_EQ(refused({"has shape [3, 24], rank and model call for [2, 24]", "lora_A", "[24, 3]",
                       "adapter_model.safetensors"}),
              8U);
}

// 2^20 is a rank that may be read; an adapter of it would have gigabytes here.
TEST_F(PeftTest, RefusesARankThatTheTensorsDoNotHaveWithoutMakingRoomForIt) {
    write(lora_, x_);
    edit(R"("r": 3)", R"("r": 1048576)");
    refused({"has shape [3, 24], rank and model call for [1048576, 24]"});
}

TEST_F(PeftTest, RefusesMissingAndSurplusTensors) {
    write(lora_, x_);
    edit(R"("up_proj")", R"("down_proj")");
    EXPECT_EQ(refused({"calls for are missing", "mlp.down_proj.lora_A.weight", "does not call for",
                       "mlp.up_proj.lora_B.weight"}),
              2U);
}

TEST_F(PeftTest, RefusesAValueThatIsNotFinite) {
    x_[5] = std::numeric_limits<float>::infinity();
    write(lora_, x_);
    refused({"weight is inf", "layers.0.self_attn.q_proj.lora_A.weight", "element 5"});
}

TEST_F(PeftTest, RefusesFoldersThatLackAFile) {
    refused({"adapter_config.json is missing", "adapter_model.safetensors is missing"});
    write(lora_, x_);
    fs::remove(folder_ / "adapter_model.safetensors");
    refused({"adapter_model.safetensors is missing", "save_pretrained"});
}

}  // namespace
}  // namespace fedit::test
