// model/model_config.h: what a Hugging Face config.json says about a model, checked field by field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

/// LlamaForCausalLM and its kin, which differ in biases, windows and norms.
enum class Architecture : std::uint8_t { llama, mistral, qwen2, qwen3 };
std::string_view to_string(Architecture architecture);  ///< "LlamaForCausalLM"

enum class RopeType : std::uint8_t { standard, linear, dynamic, llama3, yarn };

/// Rotary position embedding; `factor` and below only where the type uses them.
struct RopeConfig {
    RopeType type = RopeType::standard;
    double theta = 10000;
    double factor = 1;
    double low_freq_factor = 1, high_freq_factor = 4;  ///< llama3
    std::int64_t original_max_positions = 0;           ///< llama3 and yarn
    double beta_fast = 32, beta_slow = 1;              ///< yarn
    bool truncate = true;                              ///< yarn: the ramp ends at whole dimensions
    double attention_scale = 1;                        ///< yarn: factor on cosines and sines
};

/// A decoder-only model. Sizes in elements.
struct ModelConfig {
    Architecture architecture = Architecture::llama;
    std::int64_t hidden_size = 0, intermediate_size = 0, layers = 0;
    std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
    std::int64_t vocab_size = 0, max_positions = 0;
    double rms_norm_eps = 1e-6;
    double initializer_range = 0.02;
    RopeConfig rope;
    bool tied_head = false;  ///< tie_word_embeddings
    bool qkv_bias = false, o_bias = false, mlp_bias = false;
    bool qk_norm = false;               ///< RMSNorm in each head of q and k, before the rotation
    std::vector<std::int64_t> windows;  ///< one a layer (none at all: no window)

    /// The window of a layer's attention; 0: none.
    std::int64_t window(std::int64_t layer) const {
        return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
    }
    std::int64_t q_size() const { return heads * head_dim; }
    std::int64_t kv_size() const { return kv_heads * head_dim; }
    /// Parameters of the frozen base.
    std::int64_t parameters() const;
    /// Multiply-add weights a token passes in the layers: the P of "4 P FLOP a token", head apart.
    std::int64_t layer_weights() const;
};

/// Reads config.json's content; all faults at once. Fields that change the result and are not
/// honoured (another architecture, activation, rope type, quantization_config, ...) are errors.
ModelConfig parse_model_config(const Json& config);

/// Inverse frequencies (head_dim / 2) after scaling (linear: Chen et al. 2306.15595; dynamic: NTK
/// with a base that grows with the sequence; llama3: as Llama 3.1; yarn: Peng et al. 2309.00071).
/// `length`: positions up to the sequence's last one; only `dynamic` looks at it, where it is above
/// max_positions.
std::vector<float> rope_inverse_frequencies(const ModelConfig& config, std::int64_t length = 0);

}  // namespace fedit
