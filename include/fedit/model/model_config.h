// model/model_config.h: what a Hugging Face config.json says about a model, checked field by field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fedit/io/json.h"

namespace fedit {

enum class RopeType : std::uint8_t { standard, linear, llama3 };

/// Rotary position embedding; `factor` and below only where the type uses them.
struct RopeConfig {
    RopeType type = RopeType::standard;
    double theta = 10000;
    double factor = 1;
    double low_freq_factor = 1, high_freq_factor = 4;
    std::int64_t original_max_positions = 0;
};

/// A decoder-only model. Sizes in elements.
struct ModelConfig {
    std::int64_t hidden_size = 0, intermediate_size = 0, layers = 0;
    std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
    std::int64_t vocab_size = 0, max_positions = 0;
    double rms_norm_eps = 1e-6;
    double initializer_range = 0.02;
    RopeConfig rope;
    bool tied_head = false;       ///< tie_word_embeddings
    bool attention_bias = false;  ///< biases on q, k, v and o
    bool mlp_bias = false;

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

/// Inverse frequencies (head_dim / 2) after scaling (linear: Chen et al. 2306.15595; llama3: as
/// Llama 3.1).
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

}  // namespace fedit
