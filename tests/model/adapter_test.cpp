// tests/model/adapter_test.cpp: how adapters lie in the flat vector, and how they begin.
#include "fedit/model/adapter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/model/expect_fault.h"
#include "tests/model/tiny_model.h"

namespace fedit::test {
namespace {

ModelConfig tiny() {
    return parse_model_config(Json::parse(tiny_config(), "config.json"));
}

TEST(LoraLayout, GoesLayerByLayerAThenB) {
    const Layout layout =
        make_lora_layout(tiny(), {.r = 2, .target_modules = {"down_proj", "k_proj"}});
    ASSERT_EQ(layout.modules.size(), 4U);
    EXPECT_EQ(layout.modules[0].name, "layers.0.self_attn.k_proj");
    EXPECT_EQ(layout.modules[1].name, "layers.0.mlp.down_proj");
    EXPECT_EQ(layout.modules[2].name, "layers.1.self_attn.k_proj");
    EXPECT_EQ(layout.modules[0].spans[0], (Span{Part::lora_a, 0, 2, 24}));
    EXPECT_EQ(layout.modules[0].spans[1], (Span{Part::lora_b, 48, 12, 2}));
    EXPECT_EQ(layout.modules[1].spans[0], (Span{Part::lora_a, 72, 2, 40}));
    EXPECT_EQ(layout.modules[1].spans[1], (Span{Part::lora_b, 152, 24, 2}));
    EXPECT_EQ(layout.size, 2 * 200);
}

TEST(LoraLayout, TakesAllLinearLayersAndNamesWithTheirPath) {
    EXPECT_EQ(make_lora_layout(tiny(), {.target_modules = {"all-linear"}}).modules.size(), 14U);
    const Layout one = make_lora_layout(tiny(), {.target_modules = {"layers.1.self_attn.o_proj"}});
    ASSERT_EQ(one.modules.size(), 1U);
    EXPECT_EQ(one.modules[0].name, "layers.1.self_attn.o_proj");
}

TEST(LoraLayout, RefusesUnknownTargetsAndListsWhatThereIs) {
    const std::size_t faults = expect_refused(
        [] {
            make_lora_layout(tiny(), {.r = 0, .target_modules = {"q_proj", "c_attn", "proj"}});
        },
        {"rank 0 is below 1", "\"c_attn\" matches no linear layer", "entry 2", "\"proj\"",
         "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"});
    EXPECT_EQ(faults, 3U);
    expect_refused([] { make_lora_layout(tiny(), {.target_modules = {}}); },
                   {"target_modules is empty"});
    expect_refused([] { make_lora_layout(tiny(), {.dropout = 1}); }, {"dropout 1", "[0, 1)"});
}

TEST(LoraLayout, ScaleIsAlphaOverRankOrItsRoot) {
    const auto scale = [](const LoraConfig& lora) {
        return make_lora_layout(tiny(), lora).modules[0].scale;
    };
    EXPECT_DOUBLE_EQ(scale({.r = 4, .alpha = 8}), 2);
    EXPECT_DOUBLE_EQ(scale({.r = 4, .alpha = 8, .use_rslora = true}), 4);
}

TEST(LoraLayout, PatternsSetTheRankAndAlphaOfSingleModules) {
    LoraConfig lora{.r = 4,
                    .alpha = 8,
                    .target_modules = {"q_proj", "v_proj"},
                    .rank_pattern = {{"layers.1.self_attn.v_proj", 2}, {"layers\\.1\\..*", 9}},
                    .alpha_pattern = {{"proj", 1}, {"[qk]_proj", 12}, {"q_proj", 20}}};
    Layout layout = make_lora_layout(tiny(), lora);
    ASSERT_EQ(layout.modules.size(), 4U);
    const auto rank = [&](std::size_t m) { return layout.modules[m].spans[0].rows; };
    EXPECT_EQ(rank(0), 4);
    EXPECT_EQ(rank(1), 4);
    EXPECT_EQ(rank(2), 9) << "the second expression; the first is of v_proj";
    EXPECT_EQ(rank(3), 2) << "the first that matches counts";
    EXPECT_DOUBLE_EQ(layout.modules[0].scale, 12.0 / 4) << "proj alone is not the end of a name";
    EXPECT_DOUBLE_EQ(layout.modules[1].scale, 8.0 / 4);
    EXPECT_DOUBLE_EQ(layout.modules[2].scale, 12.0 / 9);
    EXPECT_DOUBLE_EQ(layout.modules[3].scale, 8.0 / 2);
    EXPECT_EQ(layout.modules[3].spans[1], (Span{Part::lora_b, layout.size - 24, 12, 2}));
    lora.use_rslora = true;
    EXPECT_DOUBLE_EQ(make_lora_layout(tiny(), lora).modules[2].scale, 12.0 / 3);
}

TEST(LoraLayout, APatternOfWholeNamesMayNameTheTargets) {
    const Layout layout = make_lora_layout(
        tiny(), {.target_modules = {}, .target_pattern = R"(.*\.[01]\..*\.(q|up)_proj)"});
    ASSERT_EQ(layout.modules.size(), 4U);
    EXPECT_EQ(layout.modules[1].name, "layers.0.mlp.up_proj");
    expect_refused([] { make_lora_layout(tiny(), {.target_pattern = "q_proj"}); },
                   {"\"q_proj\" matches no linear layer"});
    expect_refused([] { make_lora_layout(tiny(), {.target_pattern = "(q_proj"}); },
                   {"\"(q_proj\" is no regular expression", "target_modules"});
    expect_refused(
        [] {
            make_lora_layout(tiny(), {.rank_pattern = {{"q_proj", 0}}});
        },
        {"rank 0 is below 1", "rank_pattern"});
    // Nested repetition takes exponential time in a naive engine.
    expect_refused([] { make_lora_layout(tiny(), {.target_pattern = "((.*)*)*x"}); },
                   {"((.*)*)*x"});
}

TEST(InitialAdapter, AIsUniformWithinItsBoundAndBIsZero) {
    const Layout layout = make_lora_layout(tiny(), {.r = 8, .target_modules = {"all-linear"}});
    const std::vector<float> x = initial_adapter(layout, 3);
    ASSERT_EQ(static_cast<std::int64_t>(x.size()), layout.size);
    for (const Module& module : layout.modules) {
        const auto values = [&](const Span& span) {
            return std::vector<float>(x.begin() + span.offset,
                                      x.begin() + span.offset + span.size());
        };
        const std::vector<float> a = values(module.spans[0]), b = values(module.spans[1]);
        const double bound = 1 / std::sqrt(static_cast<double>(module.spans[0].cols));
        const auto [least, most] = std::minmax_element(a.begin(), a.end());
        EXPECT_GE(*least, -bound);
        EXPECT_LE(*most, bound);
        EXPECT_LT(*least, -0.8 * bound) << "192 or more values reach near the bound";
        EXPECT_GT(*most, 0.8 * bound);
        EXPECT_EQ(b, std::vector<float>(b.size(), 0.0F));
    }
    EXPECT_EQ(initial_adapter(layout, 3), x);
    EXPECT_NE(initial_adapter(layout, 4), x);
}

TEST(AdapterMap, FindsModulesByLayerAndLinear) {
    const Layout layout =
        make_lora_layout(tiny(), {.r = 5, .target_modules = {"v_proj", "layers.1.mlp.up_proj"}});
    const AdapterMap map(layout, 2);
    EXPECT_EQ(map.module(0, Linear::v), 0);
    EXPECT_EQ(map.module(1, Linear::v), 1);
    EXPECT_EQ(map.module(1, Linear::up), 2);
    EXPECT_EQ(map.module(0, Linear::up), -1);
    EXPECT_EQ(map.max_rank(), 5);
    EXPECT_THROW(AdapterMap(layout, 1), ShapeError);
    EXPECT_THROW(AdapterMap(Layout{{{"wte", {}}}, 0}, 2), ShapeError);
}

}  // namespace
}  // namespace fedit::test
