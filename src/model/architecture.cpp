// model/architecture.cpp: names, biases, norms and windows of the supported architectures.
#include "model/architecture.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

#include "model/field_rules.h"

namespace fedit {

namespace {

struct Names {
    Architecture architecture;
    std::string_view name, model_type;
    std::int64_t max_positions;  ///< where max_position_embeddings is absent, as in Transformers
};
constexpr auto all_names = std::to_array<Names>({
    {Architecture::llama, "LlamaForCausalLM", "llama", 2048},
    {Architecture::mistral, "MistralForCausalLM", "mistral", 131072},
    {Architecture::qwen2, "Qwen2ForCausalLM", "qwen2", 32768},
    {Architecture::qwen3, "Qwen3ForCausalLM", "qwen3", 32768},
});

const Names& names_of(Architecture architecture) {
    return all_names[static_cast<std::size_t>(architecture)];
}

std::string supported() {
    std::vector<std::string> items;
    for (const Names& names : all_names) {
        items.push_back(fmt::format("{} (model_type {})", names.name, names.model_type));
    }
    return fmt::format("supported: {}", fmt::join(items, ", "));
}

/// The architecture whose `member` is `name`.
std::optional<Architecture> find(std::string_view Names::*member, const std::string& name) {
    for (const Names& names : all_names) {
        if (names.*member == name) return names.architecture;
    }
    return std::nullopt;
}

std::optional<Architecture> named_architecture(const Json& config, Faults& faults) {
    if (!config.has("architectures")) return std::nullopt;
    const Json names = config["architectures"];
    std::optional<Architecture> found;
    if (names.is_array() && names.size() == 1) {
        found = find(&Names::name, names[0].as_string());
    }
    if (!found) {
        faults.add({.what = fmt::format("architectures = {} is not supported", names.excerpt()),
                    .where = names.where(),
                    .remedy = supported()});
    }
    return found;
}

std::optional<Architecture> named_type(const Json& config, Faults& faults) {
    if (!config.has("model_type")) return std::nullopt;
    const Json type = config["model_type"];
    const auto found = find(&Names::model_type, type.as_string());
    if (!found) {
        faults.add({.what = fmt::format("model_type = {} is not supported", type.excerpt()),
                    .where = type.where(),
                    .remedy = supported()});
    }
    return found;
}

/// sliding_window, if the model has one. Transformers assumes 4096 where the field is absent.
std::int64_t read_window(const Json& config) {
    const std::vector<std::string> keys = config.keys();
    if (std::find(keys.begin(), keys.end(), "sliding_window") == keys.end()) return 4096;
    if (!config.has("sliding_window")) return 0;
    return config["sliding_window"].as_int(1, std::int64_t{1} << 40);
}

/// The windows that layer_types asks for.
std::vector<std::int64_t> windows_of_types(const Json& types, const ModelConfig& model,
                                           std::int64_t window) {
    if (!types.is_array() || types.size() != static_cast<std::size_t>(model.layers)) {
        throw InputError({.what = fmt::format("layer_types = {} does not name a type for each of "
                                              "{} layers",
                                              types.excerpt(), model.layers),
                          .where = types.where(),
                          .remedy = "one type a layer, or leave the field out"});
    }
    std::vector<std::int64_t> windows;
    for (std::size_t i = 0; i < types.size(); ++i) {
        const std::string& type = types[i].as_string();
        if (type == "full_attention") {
            windows.push_back(0);
        } else if (type == "sliding_attention" && window > 0) {
            windows.push_back(window);
        } else {
            throw InputError(
                {.what = fmt::format("layer type {} is not supported{}", types[i].excerpt(),
                                     window > 0 ? "" : " in a model without a window"),
                 .where = types[i].where(),
                 .remedy = "supported: full_attention; sliding_attention where "
                           "sliding_window is in use"});
        }
    }
    return windows;
}

/// One window for all layers, which layer_types may repeat but not change: Transformers ignores it.
std::vector<std::int64_t> same_windows(const Json& config, const ModelConfig& model,
                                       std::int64_t window) {
    std::vector<std::int64_t> windows(static_cast<std::size_t>(model.layers), window);
    if (!config.has("layer_types")) return windows;
    const Json types = config["layer_types"];
    if (windows_of_types(types, model, window) == windows) return windows;
    throw InputError({.what = fmt::format("layer_types = {} is not supported for {} with "
                                          "sliding_window = {}",
                                          types.excerpt(), to_string(model.architecture),
                                          window > 0 ? std::to_string(window) : "null"),
                      .where = types.where(),
                      .remedy = "supported: the same window in every layer"});
}

std::vector<std::int64_t> mistral_windows(const Json& config, const ModelConfig& model) {
    const std::int64_t window = read_window(config);
    if (window > 0 && !config.bool_or("use_sliding_window", true)) {
        throw InputError({.what = fmt::format("use_sliding_window = false is not supported for {}",
                                              to_string(model.architecture)),
                          .where = config["use_sliding_window"].where(),
                          .remedy = "set sliding_window to null, which switches the window off"});
    }
    return same_windows(config, model, window);
}

std::vector<std::int64_t> qwen_windows(const Json& config, const ModelConfig& model) {
    const std::int64_t window =
        config.bool_or("use_sliding_window", false) ? read_window(config) : 0;
    if (config.has("layer_types")) {
        return windows_of_types(config["layer_types"], model, window);
    }
    std::int64_t full = 28;  // what Transformers assumes
    if (config.has("max_window_layers")) {
        full = config["max_window_layers"].as_int(0, std::int64_t{1} << 40);
    }
    std::vector<std::int64_t> windows(static_cast<std::size_t>(model.layers), window);
    std::fill_n(windows.begin(), std::min(full, model.layers), 0);
    return windows;
}

}  // namespace

std::string_view to_string(Architecture architecture) {
    return names_of(architecture).name;
}

Architecture parse_architecture(const Json& config) {
    Faults faults;
    const auto by_name = named_architecture(config, faults);
    const auto by_type = named_type(config, faults);
    faults.throw_if_any();
    if (!by_name && !by_type) {
        throw InputError({.what = "neither architectures nor model_type says what this model is",
                          .where = config.where(),
                          .remedy = supported()});
    }
    if (by_name && by_type && *by_name != *by_type) {
        throw InputError(
            {.what = fmt::format("architectures = {} and model_type = {} contradict",
                                 config["architectures"].excerpt(), config["model_type"].excerpt()),
             .where = config["model_type"].where(),
             .remedy = supported()});
    }
    return by_name ? *by_name : *by_type;
}

std::int64_t default_max_positions(Architecture architecture) {
    return names_of(architecture).max_positions;
}

void read_projections(const Json& config, ModelConfig& out, Faults& faults) {
    constexpr NeutralField no_attention_bias{"attention_bias", "false"};
    constexpr NeutralField no_mlp_bias{"mlp_bias", "false"};
    const auto off = [&](const NeutralField& field) {
        faults.check([&] { require_neutral(config, {&field, 1}, faults); });
    };
    const auto read_attention_bias = [&] {
        faults.check([&] { out.qkv_bias = config.bool_or("attention_bias", false); });
        out.o_bias = out.qkv_bias;
    };
    switch (out.architecture) {
        case Architecture::llama:
            read_attention_bias();
            faults.check([&] { out.mlp_bias = config.bool_or("mlp_bias", false); });
            return;
        case Architecture::mistral:
            off(no_attention_bias);
            break;
        case Architecture::qwen2:
            out.qkv_bias = true;  // whatever attention_bias says: Transformers does not look at it
            break;
        case Architecture::qwen3:
            read_attention_bias();
            out.qk_norm = true;
            break;
    }
    off(no_mlp_bias);
}

void read_windows(const Json& config, ModelConfig& out, Faults& faults) {
    faults.check([&] {
        switch (out.architecture) {
            case Architecture::llama: {
                constexpr NeutralField none{"sliding_window", "null"};
                require_neutral(config, {&none, 1}, faults);
                out.windows = same_windows(config, out, 0);
                break;
            }
            case Architecture::mistral:
                out.windows = mistral_windows(config, out);
                break;
            case Architecture::qwen2:
            case Architecture::qwen3:
                out.windows = qwen_windows(config, out);
                break;
        }
    });
}

}  // namespace fedit
