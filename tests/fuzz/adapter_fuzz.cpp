// tests/fuzz/adapter_fuzz.cpp: a PEFT folder: adapter_config.json and, behind a zero byte,
// adapter_model.safetensors.
#include <algorithm>
#include <cmath>

#include "fedit/model/peft.h"
#include "tests/fuzz/input_file.h"

namespace {

constexpr const char* config = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 4,
"intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 5})";

void check(const fedit::PeftAdapter& adapter) {
    using fedit::fuzz::require;
    require(std::ssize(adapter.x) == adapter.layout.size, "an adapter fills its layout");
    require(std::ranges::all_of(adapter.x, [](float value) { return std::isfinite(value); }),
            "an adapter's values are finite");
    const auto files = encode_peft(adapter.layout, adapter.x, adapter.config, "base");
    require(files.size() == 2, "an adapter that was read can be written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fedit::fuzz;
    static const InputFolder folder;
    static const fedit::ModelConfig model = parse_model_config(fedit::Json::parse(config, "model"));
    return judge([&] {
        const auto [settings, tensors] = halves(text_of(data, size));
        folder.write("adapter_config.json", settings);
        folder.write("adapter_model.safetensors", tensors);
        check(read_peft(folder.path(), model));
    });
}
