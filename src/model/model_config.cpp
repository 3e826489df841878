// model/model_config.cpp: reads config.json and refuses what the decoder would compute wrongly.
#include "fedit/model/model_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "model/architecture.h"
#include "model/faults.h"
#include "model/field_rules.h"
#include "model/rope.h"

namespace fedit {

namespace {

constexpr std::int64_t max_size = std::int64_t{1} << 24;
constexpr std::int64_t max_layers = 4096;
constexpr std::int64_t max_head_dim = 1 << 16;

// Fields that change the result in some model family or training recipe. A field in neither this
// table nor the code is ignored, as Transformers does with it (token ids, use_cache,
// transformers_version, torch_dtype and dtype: tensors name their own type).
constexpr auto neutral_fields = std::to_array<NeutralField>({
    {"pretraining_tp", "1"},
    {"attention_dropout", "0"},
    {"hidden_dropout", "0"},
    {"hidden_dropout_prob", "0"},
    {"embd_pdrop", "0"},
    {"resid_pdrop", "0"},
    {"mlp_dropout", "0"},
    {"partial_rotary_factor", "1"},
    {"rotary_pct", "1"},
    {"quantization_config", "null"},
    {"compression_config", "null"},
    {"auto_map", "null"},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {"use_bidirectional_attention", "false"},
    {"is_causal", "true"},
    {"rope_interleaved", "false"},
    {"rope_interleave", "false"},
    {"use_qk_norm", "false"},
    {"qk_layernorm", "false"},
    {"qkv_bias", "false"},
    {"clip_qkv", "null"},
    {"alibi", "false"},
    {"parallel_residual", "false"},
    {"use_parallel_residual", "false"},
    {"no_rope_layers", "null"},
    {"attn_logit_softcapping", "null"},
    {"final_logit_softcapping", "null"},
    {"logit_scale", "1"},
    {"logits_scaling", "1"},
    {"embedding_multiplier", "1"},
    {"attention_multiplier", "null"},
    {"residual_multiplier", "1"},
    {"query_pre_attn_scalar", "null"},
    {"scale_emb", "1"},
    {"scale_depth", "null"},
    {"num_local_experts", "null"},
    {"num_experts", "null"},
    {"n_routed_experts", "null"},
    {"pruned_heads", "{}"},
});

void check_activation(const Json& config, Faults& faults) {
    const std::string activation = config.string_or("hidden_act", "silu");
    if (activation == "silu" || activation == "swish") return;
    faults.add({.what = fmt::format("hidden_act = \"{}\" is not supported", activation),
                .where = config["hidden_act"].where(),
                .remedy = "supported: silu"});
}

double positive(const Json& config, const char* key, double fallback) {
    const double value = config.number_or(key, fallback);
    if (!(value > 0) || !std::isfinite(value)) {
        throw InputError({.what = fmt::format("{} = {} must be above 0", key, value),
                          .where = config[key].where(),
                          .remedy = "correct the field"});
    }
    return value;
}

void read_heads(const Json& config, ModelConfig& out, Faults& faults) {
    if (out.heads == 0 || out.hidden_size == 0) return;  // their faults are already told
    out.kv_heads = out.heads;
    faults.check([&] {
        if (config.has("num_key_value_heads")) {
            out.kv_heads = config["num_key_value_heads"].as_int(1, out.heads);
        }
        if (out.heads % out.kv_heads != 0) {
            throw InputError({.what = fmt::format("num_attention_heads = {} is no multiple of "
                                                  "num_key_value_heads = {}",
                                                  out.heads, out.kv_heads),
                              .where = config.where(),
                              .remedy = "correct one of the two fields"});
        }
    });
    faults.check([&] {
        if (config.has("head_dim")) {
            out.head_dim = config["head_dim"].as_int(1, max_head_dim);
        } else if (out.architecture == Architecture::qwen3) {
            out.head_dim = 128;  // what Transformers assumes
        } else if (out.hidden_size % out.heads == 0) {
            out.head_dim = out.hidden_size / out.heads;
        } else {
            throw InputError(
                {.what = fmt::format("hidden_size = {} is no multiple of "
                                     "num_attention_heads = {}, and head_dim is absent",
                                     out.hidden_size, out.heads),
                 .where = config.where(),
                 .remedy = "give head_dim, or correct the fields"});
        }
        if (out.head_dim % 2 != 0) {
            throw InputError({.what = fmt::format("head_dim = {} is odd; rotary position embedding "
                                                  "rotates pairs",
                                                  out.head_dim),
                              .where = config.where(),
                              .remedy = "an even head_dim"});
        }
        if (out.head_dim > max_head_dim || out.q_size() > max_size) {
            throw InputError({.what = fmt::format("{} heads of {} elements are too large",
                                                  out.heads, out.head_dim),
                              .where = config.where(),
                              .remedy = fmt::format("at most {} elements a head, and {} in all "
                                                    "heads",
                                                    max_head_dim, max_size)});
        }
    });
}

/// Numbers that are sound one by one may make a rotation that is none: a base of 1e-300 overflows.
void check_rotation(const Json& config, const ModelConfig& model) {
    const std::vector<float> frequencies = rope_inverse_frequencies(model);
    const bool finite = std::all_of(frequencies.begin(), frequencies.end(),
                                    [](float value) { return std::isfinite(value); });
    if (finite && std::isfinite(model.rope.attention_scale)) return;
    const char* field = config.has("rope_scaling")      ? "rope_scaling"
                        : config.has("rope_parameters") ? "rope_parameters"
                                                        : "rope_theta";
    throw InputError({.what = "the rotary position embedding has frequencies or a scale that are "
                              "no finite numbers",
                      .where = config[field].where(),
                      .remedy = "correct rope_theta (10000 is usual) and the factors beside it"});
}

}  // namespace

std::int64_t ModelConfig::layer_weights() const {
    const std::int64_t attention = hidden_size * (2 * q_size() + 2 * kv_size());
    return layers * (attention + 3 * hidden_size * intermediate_size);
}

std::int64_t ModelConfig::parameters() const {
    std::int64_t a_layer = 2 * hidden_size;
    if (qkv_bias) a_layer += q_size() + 2 * kv_size();
    if (o_bias) a_layer += hidden_size;
    if (qk_norm) a_layer += 2 * head_dim;
    if (mlp_bias) a_layer += 2 * intermediate_size + hidden_size;
    const std::int64_t tables = (tied_head ? 1 : 2) * vocab_size * hidden_size;
    return layer_weights() + layers * a_layer + tables + hidden_size;
}

ModelConfig parse_model_config(const Json& config) {
    if (!config.is_object()) {
        throw InputError({.what = "a model's configuration must be a JSON object",
                          .where = config.where() + ": " + config.excerpt(),
                          .remedy = "give the config.json of a Hugging Face model folder"});
    }
    Faults faults;
    ModelConfig out;
    bool known = false;
    faults.check([&] {
        out.architecture = parse_architecture(config);
        known = true;
    });
    faults.check([&] { check_activation(config, faults); });
    faults.check([&] { require_neutral(config, neutral_fields, faults); });

    const auto read_size = [&](const char* key, std::int64_t largest, std::int64_t& value) {
        faults.check([&] { value = config[key].as_int(1, largest); });
    };
    read_size("hidden_size", max_size, out.hidden_size);
    read_size("intermediate_size", max_size, out.intermediate_size);
    read_size("num_hidden_layers", max_layers, out.layers);
    read_size("num_attention_heads", max_size, out.heads);
    read_size("vocab_size", max_size, out.vocab_size);
    out.max_positions = default_max_positions(out.architecture);
    if (config.has("max_position_embeddings")) {
        read_size("max_position_embeddings", std::int64_t{1} << 40, out.max_positions);
    }
    read_heads(config, out, faults);
    faults.check([&] { out.rms_norm_eps = positive(config, "rms_norm_eps", 1e-6); });
    faults.check([&] { out.initializer_range = positive(config, "initializer_range", 0.02); });
    faults.check([&] { out.tied_head = config.bool_or("tie_word_embeddings", false); });
    if (known) read_projections(config, out, faults);
    if (known && out.layers > 0) read_windows(config, out, faults);
    faults.check([&] { out.rope = parse_rope(config, out.max_positions); });
    faults.throw_if_any();
    check_rotation(config, out);
    return out;
}

}  // namespace fedit
