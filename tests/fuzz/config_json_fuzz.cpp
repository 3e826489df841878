// tests/fuzz/config_json_fuzz.cpp: a model's config.json, and all that is computed from it before a
// weight is read.
#include <algorithm>
#include <cmath>

#include "fedit/model/adapter.h"
#include "fedit/model/hf_folder.h"
#include "tests/fuzz/input_file.h"

namespace {

using fedit::fuzz::require;

void check_frequencies(const fedit::ModelConfig& config, std::int64_t length) {
    constexpr std::int64_t widest = 4096;  // wider heads take long, and compute the same
    if (config.head_dim > widest) return;
    const std::vector<float> frequencies = rope_inverse_frequencies(config, length);
    require(std::ssize(frequencies) == config.head_dim / 2, "a frequency for each pair");
    require(std::ranges::all_of(frequencies, [](float f) { return std::isfinite(f); }),
            "frequencies are finite");
}

void check_model(const fedit::ModelConfig& config) {
    require(config.parameters() > 0, "a model has parameters");
    require(config.heads % config.kv_heads == 0, "heads share keys evenly");
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
        require(config.window(layer) >= 0, "a window is no negative number");
    }
    check_frequencies(config, 0);
    check_frequencies(config, 100'000);
    constexpr std::int64_t few = 64;
    if (config.layers > few) return;
    require(!expected_tensors(config).empty(), "a model has tensors");
    require(make_lora_layout(config, {.target_modules = {"all-linear"}}).size > 0,
            "a model can be adapted");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fedit::fuzz::judge([&] {
        const std::string_view text = fedit::fuzz::text_of(data, size);
        check_model(parse_model_config(fedit::Json::parse(text, "config.json")));
    });
}
