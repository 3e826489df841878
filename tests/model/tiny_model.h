// tests/model/tiny_model.h: a random model of a few thousand weights, written as a folder.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "fedit/core/rng.h"
#include "fedit/io/atomic_file.h"
#include "fedit/model/hf_folder.h"
#include "fedit/model/model_config.h"

namespace fedit::test {

/// A config.json of two layers and grouped-query attention; `extra` is put before the end:
/// `, "field": value`.
inline std::string tiny_config(const std::string& extra = "") {
    return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24,
 "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
 "num_key_value_heads": 2, "vocab_size": 50, "max_position_embeddings": 64, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "initializer_range": 0.3, "tie_word_embeddings": false)" +
           extra + "}";
}

/// `text` with its first `from` replaced, which must be there.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    if (at == std::string::npos) throw std::invalid_argument(from + " is not in " + text);
    return text.replace(at, from.size(), to);
}

/// The tiny config as another architecture.
inline std::string tiny_config(Architecture architecture, const std::string& extra) {
    const std::string name(to_string(architecture));
    return replaced(replaced(tiny_config(extra), "LlamaForCausalLM", name),
                    R"("model_type": "llama", )", "");
}

/// Writes the folder `name` (below the working folder) and gives its path.
inline std::filesystem::path write_tiny_model(const std::filesystem::path& folder,
                                              const std::string& config = tiny_config()) {
    const AtomicFile file;
    file.write(folder / "config.json", std::string_view(config));
    const ModelConfig model = parse_model_config(Json::parse(config, "config.json"));
    file.write(folder / "model.safetensors",
               std::span<const std::byte>(make_random_weights(model, 7)));
    return folder;
}

inline std::vector<std::int32_t> random_tokens(std::size_t count, std::uint64_t seed) {
    RandomStream stream({.seed = seed, .purpose = Purpose::synthetic_data});
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 0; i < count; ++i) {
        tokens.push_back(static_cast<std::int32_t>(stream.below(50)));
    }
    return tokens;
}

/// Normal values with deviation `scale`: an adapter whose B is not zero.
inline std::vector<float> random_adapter(std::int64_t size, double scale, std::uint64_t seed) {
    RandomStream stream({.seed = seed, .purpose = Purpose::synthetic_data, .client = 1});
    std::vector<float> x;
    for (std::int64_t i = 0; i < size; ++i) {
        x.push_back(static_cast<float>(scale * stream.normal()));
    }
    return x;
}

}  // namespace fedit::test
