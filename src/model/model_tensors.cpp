// model/model_tensors.cpp: the tensors that a model has, and a new model's random ones.
#include <string>

#include "fedit/core/parallel.h"
#include "fedit/core/rng.h"
#include "fedit/model/hf_folder.h"
#include "model/linear_shape.h"

namespace fedit {

namespace {

bool has_bias(const ModelConfig& config, Linear linear) {
    if (linear < Linear::o) return config.qkv_bias;
    return linear == Linear::o ? config.o_bias : config.mlp_bias;
}

std::vector<float> initial_values(const TensorSpec& spec, std::size_t index,
                                  const ModelConfig& config, std::uint64_t seed) {
    std::size_t size = 1;
    for (const std::int64_t extent : spec.shape) size *= static_cast<std::size_t>(extent);
    if (spec.name.ends_with("norm.weight")) return std::vector<float>(size, 1.0F);
    std::vector<float> values(size, 0.0F);
    if (spec.name.ends_with(".bias")) return values;
    RandomStream stream({.seed = seed,
                         .purpose = Purpose::model_init,
                         .client = static_cast<std::uint32_t>(index)});
    for (float& value : values) {
        value = static_cast<float>(config.initializer_range * stream.normal());
    }
    return values;
}

}  // namespace

std::vector<TensorSpec> expected_tensors(const ModelConfig& config) {
    std::vector<TensorSpec> specs{
        {"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}}};
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
        const std::string prefix = "model.layers." + std::to_string(layer) + ".";
        specs.push_back({prefix + "input_layernorm.weight", {config.hidden_size}});
        specs.push_back({prefix + "post_attention_layernorm.weight", {config.hidden_size}});
        if (config.qk_norm) {
            specs.push_back({prefix + "self_attn.q_norm.weight", {config.head_dim}});
            specs.push_back({prefix + "self_attn.k_norm.weight", {config.head_dim}});
        }
        for (std::size_t i = 0; i < linear_count; ++i) {
            const auto linear = static_cast<Linear>(i);
            const LinearShape shape = linear_shape(config, linear);
            const std::string name = "model." + module_name(layer, linear);
            specs.push_back({name + ".weight", {shape.out, shape.in}});
            if (has_bias(config, linear)) specs.push_back({name + ".bias", {shape.out}});
        }
    }
    specs.push_back({"model.norm.weight", {config.hidden_size}});
    if (!config.tied_head) {
        specs.push_back({"lm_head.weight", {config.vocab_size, config.hidden_size}});
    }
    return specs;
}

std::vector<std::byte> make_random_weights(const ModelConfig& config, std::uint64_t seed,
                                           int threads) {
    const std::vector<TensorSpec> specs = expected_tensors(config);
    std::vector<std::vector<float>> values(specs.size());
    run_parallel(threads, std::ssize(specs), [&](std::int64_t i) {
        const auto index = static_cast<std::size_t>(i);
        values[index] = initial_values(specs[index], index, config, seed);
    });
    std::vector<TensorToWrite> tensors;
    for (std::size_t i = 0; i < specs.size(); ++i) {
        tensors.push_back({specs[i].name, StoredType::f32, specs[i].shape,
                           std::as_bytes(std::span<const float>(values[i]))});
    }
    return encode_safetensors(tensors, {{"format", "pt"}});
}

}  // namespace fedit
