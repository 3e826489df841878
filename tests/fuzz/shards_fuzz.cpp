// tests/fuzz/shards_fuzz.cpp: the index of a model in shards; the shards themselves are sound.
#include <vector>

#include "fedit/model/hf_folder.h"
#include "tests/fuzz/input_file.h"

namespace {

constexpr const char* config = R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 4,
"intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 5,
"tie_word_embeddings": false})";

/// A model of one layer: a.safetensors holds its first tensors, b.safetensors the others.
void write_shards(const fedit::fuzz::InputFolder& folder) {
    folder.write("config.json", config);
    const std::vector<std::byte> zeros(4 * 4 * 6);
    const auto specs =
        fedit::expected_tensors(parse_model_config(fedit::Json::parse(config, "config")));
    std::vector<fedit::TensorToWrite> parts[2];
    for (std::size_t i = 0; i < specs.size(); ++i) {
        std::size_t bytes = sizeof(float);
        for (const std::int64_t extent : specs[i].shape) bytes *= static_cast<std::size_t>(extent);
        parts[i < specs.size() / 2 ? 0 : 1].push_back(
            {specs[i].name, fedit::StoredType::f32, specs[i].shape, std::span(zeros).first(bytes)});
    }
    for (const int part : {0, 1}) {
        const std::vector<std::byte> file = fedit::encode_safetensors(parts[part]);
        folder.write(part == 0 ? "a.safetensors" : "b.safetensors",
                     {reinterpret_cast<const char*>(file.data()), file.size()});
    }
}

struct Model {
    Model() { write_shards(folder); }
    fedit::fuzz::InputFolder folder;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Model model;
    return fedit::fuzz::judge([&] {
        model.folder.write("model.safetensors.index.json", fedit::fuzz::text_of(data, size));
        const fedit::HfFolder opened(model.folder.path());
        for (const fedit::TensorSpec& spec : expected_tensors(opened.config())) {
            fedit::fuzz::require(opened.has(spec.name), "an accepted model has all its tensors");
        }
        (void)opened.fingerprint();
    });
}
