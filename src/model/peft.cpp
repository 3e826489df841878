// model/peft.cpp: adapter_config.json and adapter_model.safetensors, as PEFT writes them.
#include "fedit/model/peft.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <set>

#include "fedit/io/json.h"
#include "fedit/io/safetensors.h"
#include "model/faults.h"
#include "model/field_rules.h"
#include "model/linear_shape.h"
#include "model/name_pattern.h"
#include "model/shape_text.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

constexpr const char* config_name = "adapter_config.json";
constexpr const char* tensors_name = "adapter_model.safetensors";

constexpr std::int64_t most_rank = 1 << 20;

// Fields that say nothing about the adapter's function, or that read_config() reads. Any other
// field must be switched off: PEFT grows features by adding fields.
constexpr auto plain_fields = std::to_array<std::string_view>(
    {"peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora",
     "rank_pattern", "alpha_pattern", "init_lora_weights", "base_model_name_or_path", "revision",
     "inference_mode", "peft_version", "auto_mapping", "megatron_core", "qalora_group_size",
     "bias"});

void check_features(const Json& config, Faults& faults) {
    for (const std::string& key : config.keys()) {
        const bool plain =
            std::find(plain_fields.begin(), plain_fields.end(), key) != plain_fields.end();
        if (plain || is_off(config[key])) continue;
        faults.add({.what = fmt::format("{} = {} is not supported", key, config[key].excerpt()),
                    .where = config[key].where(),
                    .remedy = "supported: plain LoRA, with this field null, false or empty"});
    }
    constexpr auto fixed = std::to_array<NeutralField>({{"bias", "\"none\""}});
    require_neutral(config, fixed, faults);
}

void check_kind(const Json& config, Faults& faults) {
    faults.check([&] {
        if (config["peft_type"].as_string() == "LORA") return;
        throw InputError(
            {.what = fmt::format("peft_type = {} is not supported", config["peft_type"].excerpt()),
             .where = config["peft_type"].where(),
             .remedy = "supported: LORA"});
    });
    faults.check([&] {
        if (config.string_or("task_type", "CAUSAL_LM") == "CAUSAL_LM") return;
        throw InputError(
            {.what = fmt::format("task_type = {} is not supported", config["task_type"].excerpt()),
             .where = config["task_type"].where(),
             .remedy = "supported: CAUSAL_LM"});
    });
    if (!config.has("init_lora_weights")) return;
    // Some initialisations (pissa, olora, ...) change the base when PEFT loads the adapter.
    const Json init = config["init_lora_weights"];
    if (init.is_bool() || (init.is_string() && init.as_string() == "gaussian")) return;
    faults.add(
        {.what = fmt::format("init_lora_weights = {} is not supported", init.excerpt()),
         .where = init.where(),
         .remedy = "supported: true, false, \"gaussian\"; convert the adapter to plain LoRA"});
}

bool is_all_linear(const std::string& text) {
    return std::equal(text.begin(), text.end(), all_linear.begin(), all_linear.end(),
                      [](char a, char b) { return std::tolower(a) == b; });
}

void read_targets(const Json& targets, LoraConfig& lora) {
    lora.target_modules.clear();
    if (targets.is_string()) {  // one word for all, or a regular expression
        if (is_all_linear(targets.as_string())) {
            lora.target_modules.emplace_back(all_linear);
        } else {
            lora.target_pattern = targets.as_string();
            const NamePattern sound(lora.target_pattern, targets.where());
        }
        return;
    }
    if (!targets.is_array()) {
        throw InputError(
            {.what = fmt::format("target_modules = {} is not supported", targets.excerpt()),
             .where = targets.where(),
             .remedy = "a list of names, a regular expression, or \"all-linear\"; " +
                       linear_layers_there_are()});
    }
    for (std::size_t i = 0; i < targets.size(); ++i) {
        lora.target_modules.push_back(targets[i].as_string());
    }
}

/// The entries of rank_pattern or alpha_pattern, in the file's order. `read` gives one's value.
template <class Read>
auto read_pattern(const Json& config, const char* field, const Read& read) {
    std::vector<std::pair<std::string, decltype(read(config))>> entries;
    if (!config.has(field)) return entries;
    const Json patterns = config[field];
    for (const std::string& expression : patterns.keys()) {
        const NamePattern sound(expression, patterns[expression].where());
        entries.emplace_back(expression, read(patterns[expression]));
    }
    return entries;
}

LoraConfig read_config(const Json& config, Faults& faults) {
    if (!config.is_object()) {
        throw InputError({.what = "an adapter's configuration must be a JSON object",
                          .where = config.where() + ": " + config.excerpt(),
                          .remedy = "give a folder that PEFT's save_pretrained wrote"});
    }
    check_kind(config, faults);
    check_features(config, faults);
    LoraConfig lora;
    faults.check([&] { lora.r = static_cast<int>(config["r"].as_int(1, most_rank)); });
    faults.check([&] { lora.alpha = config["lora_alpha"].as_double(); });
    faults.check([&] { lora.dropout = config.number_or("lora_dropout", 0); });
    faults.check([&] { lora.use_rslora = config.bool_or("use_rslora", false); });
    faults.check([&] { read_targets(config["target_modules"], lora); });
    faults.check([&] {
        lora.rank_pattern = read_pattern(config, "rank_pattern", [](const Json& value) {
            return static_cast<int>(value.as_int(1, most_rank));
        });
    });
    faults.check([&] {
        lora.alpha_pattern = read_pattern(config, "alpha_pattern",
                                          [](const Json& value) { return value.as_double(); });
    });
    return lora;
}

/// PEFT's name of a span's tensor.
std::string tensor_name(const Module& module, const Span& span) {
    return fmt::format("base_model.model.model.{}.{}.weight", module.name,
                       span.part == Part::lora_a ? "lora_A" : "lora_B");
}

std::string where_of(const SafetensorsFile& file, const std::string& name) {
    return fmt::format("{}, tensor {}", file.path().string(), name);
}

void check_shape(const SafetensorsFile& file, const std::string& name, const Span& span) {
    const StoredTensor& tensor = file.tensor(name);
    const std::vector<std::int64_t> shape{span.rows, span.cols};
    if (tensor.shape == shape) return;
    throw InputError({.what = fmt::format("a tensor has shape {}, rank and model call for {}",
                                          shape_text(tensor.shape), shape_text(shape)),
                      .where = where_of(file, name),
                      .remedy = "use an adapter that was trained on this model"});
}

void read_span(const SafetensorsFile& file, const std::string& name, const Span& span,
               std::vector<float>& x) {
    const auto out = std::span(x).subspan(static_cast<std::size_t>(span.offset),
                                          static_cast<std::size_t>(span.size()));
    file.read_floats(name, out);
    const auto bad =
        std::find_if(out.begin(), out.end(), [](float v) { return !std::isfinite(v); });
    if (bad == out.end()) return;
    throw InputError(
        {.what = fmt::format("an adapter's weight is {}", *bad),
         .where = fmt::format("{}, element {}", where_of(file, name), bad - out.begin()),
         .remedy = "use an intact adapter"});
}

/// Adds a fault for each tensor that is missing, surplus or of another shape.
void check_tensors(const SafetensorsFile& file, const Layout& layout, Faults& faults) {
    std::set<std::string> surplus;
    for (const auto& [name, tensor] : file.tensors()) surplus.insert(name);
    std::vector<std::string> missing;
    for (const Module& module : layout.modules) {
        for (const Span& span : module.spans) {
            const std::string name = tensor_name(module, span);
            if (surplus.erase(name) == 0) {
                missing.push_back(name);
                continue;
            }
            faults.check([&] { check_shape(file, name, span); });
        }
    }
    if (!missing.empty()) {
        faults.add(
            {.what = "tensors that target_modules calls for are missing: " + name_some(missing),
             .where = file.path().string(),
             .remedy = "use an adapter that was trained on this model"});
    }
    if (!surplus.empty()) {
        faults.add({.what = "tensors that target_modules does not call for: " +
                            name_some({surplus.begin(), surplus.end()}),
                    .where = file.path().string(),
                    .remedy = "use an adapter that was trained on this model"});
    }
}

/// The file is checked against the layout first: a configuration alone, which may ask for a rank of
/// a million, costs no memory.
void read_tensors(const SafetensorsFile& file, PeftAdapter& adapter, Faults& faults) {
    check_tensors(file, adapter.layout, faults);
    if (!faults.empty()) return;
    adapter.x.resize(static_cast<std::size_t>(adapter.layout.size));
    for (const Module& module : adapter.layout.modules) {
        for (const Span& span : module.spans) {
            faults.check([&] { read_span(file, tensor_name(module, span), span, adapter.x); });
        }
    }
}

fs::path require_file(const fs::path& folder, const char* name) {
    const fs::path path = folder / name;
    if (fs::is_regular_file(path)) return path;
    throw InputError({.what = fmt::format("{} is missing from the adapter folder", name),
                      .where = path.string(),
                      .remedy = fmt::format("give a folder that PEFT's save_pretrained wrote: {} "
                                            "and {}",
                                            config_name, tensors_name)});
}

std::vector<std::byte> to_bytes(const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

/// A number as PEFT's own type has it: whole where it can be.
void set_number(JsonWriter& json, const std::string& key, double value) {
    if (value == std::floor(value) && std::abs(value) < 1e15) {
        json.set(key, static_cast<std::int64_t>(value));
    } else {
        json.set(key, value);
    }
}

std::string encode_config(const LoraConfig& lora, const std::string& base_model) {
    JsonWriter json, ranks, alphas;
    for (const auto& [expression, rank] : lora.rank_pattern) ranks.set(expression, rank);
    for (const auto& [expression, alpha] : lora.alpha_pattern) {
        set_number(alphas, expression, alpha);
    }
    json.set("alpha_pattern", alphas);
    json.set_null("auto_mapping");
    json.set("base_model_name_or_path", base_model);
    json.set("bias", "none");
    json.set("fan_in_fan_out", false);
    json.set("inference_mode", true);
    json.set("init_lora_weights", true);
    set_number(json, "lora_alpha", lora.alpha);
    json.set("lora_dropout", lora.dropout);
    json.set_null("modules_to_save");
    json.set("peft_type", "LORA");
    json.set("r", lora.r);
    json.set("rank_pattern", ranks);
    json.set_null("revision");
    if (!lora.target_pattern.empty()) {
        json.set("target_modules", lora.target_pattern);
    } else if (lora.target_modules.size() == 1 && lora.target_modules[0] == all_linear) {
        json.set("target_modules", all_linear);
    } else {
        json.set("target_modules", lora.target_modules);
    }
    json.set("task_type", "CAUSAL_LM");
    json.set("use_dora", false);
    json.set("use_rslora", lora.use_rslora);
    return json.text(2) + "\n";
}

}  // namespace

PeftAdapter read_peft(const fs::path& folder, const ModelConfig& model) {
    Faults faults;
    PeftAdapter adapter;
    faults.check([&] {
        const Json config = Json::parse_file(require_file(folder, config_name));
        adapter.config = read_config(config, faults);
        faults.check([&] { adapter.layout = make_lora_layout(model, adapter.config); });
    });
    const bool known = faults.empty();
    faults.check([&] {
        const SafetensorsFile file(require_file(folder, tensors_name));
        if (known) read_tensors(file, adapter, faults);
    });
    faults.throw_if_any();
    return adapter;
}

std::vector<AtomicFile::Member> encode_peft(const Layout& layout, std::span<const float> x,
                                            const LoraConfig& lora, const std::string& base_model) {
    if (static_cast<std::int64_t>(x.size()) != layout.size) {
        throw ShapeError({.what = "an adapter does not fit its layout",
                          .where = fmt::format("{} values, layout of {}", x.size(), layout.size),
                          .remedy = "encode an adapter with the layout it was made with"});
    }
    std::vector<TensorToWrite> tensors;
    for (const Module& module : layout.modules) {
        for (const Span& span : module.spans) {
            const auto values = x.subspan(static_cast<std::size_t>(span.offset),
                                          static_cast<std::size_t>(span.size()));
            tensors.push_back({tensor_name(module, span),
                               StoredType::f32,
                               {span.rows, span.cols},
                               std::as_bytes(values)});
        }
    }
    return {{config_name, to_bytes(encode_config(lora, base_model))},
            {tensors_name, encode_safetensors(tensors, {{"format", "pt"}})}};
}

}  // namespace fedit
