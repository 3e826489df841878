// model/adapter.cpp: lays LoRA adapters out in one flat vector and finds them again.
#include "fedit/model/adapter.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "fedit/core/rng.h"
#include "fedit/model/dense.h"
#include "model/faults.h"
#include "model/linear_shape.h"
#include "model/name_pattern.h"

namespace fedit {

namespace {

struct LinearName {
    std::string_view block, name;
};
constexpr std::array<LinearName, linear_count> linear_names{{{"self_attn", "q_proj"},
                                                             {"self_attn", "k_proj"},
                                                             {"self_attn", "v_proj"},
                                                             {"self_attn", "o_proj"},
                                                             {"mlp", "gate_proj"},
                                                             {"mlp", "up_proj"},
                                                             {"mlp", "down_proj"}}};

const LinearName& name_of(Linear linear) {
    return linear_names[static_cast<std::size_t>(linear)];
}

/// PEFT's rule for a list of targets: the whole name of a module, or its end after a dot.
bool matches(std::string_view module, std::string_view target) {
    if (target == all_linear) return true;
    if (!module.ends_with(target)) return false;
    return module.size() == target.size() || module[module.size() - target.size() - 1] == '.';
}

void check_lora(const LoraConfig& lora, Faults& faults) {
    if (lora.r < 1) {
        faults.add({.what = fmt::format("LoRA rank {} is below 1", lora.r),
                    .where = fmt::format("r = {}", lora.r),
                    .remedy = "a rank of at least 1, such as 8 or 16"});
    }
    if (!std::isfinite(lora.alpha)) {
        faults.add({.what = fmt::format("LoRA alpha {} is not a finite number", lora.alpha),
                    .where = fmt::format("lora_alpha = {}", lora.alpha),
                    .remedy = "a finite number, such as the rank or twice the rank"});
    }
    if (!(lora.dropout >= 0 && lora.dropout < 1)) {
        faults.add({.what = fmt::format("LoRA dropout {} is outside [0, 1)", lora.dropout),
                    .where = fmt::format("lora_dropout = {}", lora.dropout),
                    .remedy = "a probability below 1, such as 0.05"});
    }
    for (const auto& [pattern, rank] : lora.rank_pattern) {
        if (rank >= 1) continue;
        faults.add({.what = fmt::format("LoRA rank {} is below 1", rank),
                    .where = fmt::format("rank_pattern, {} = {}", pattern, rank),
                    .remedy = "a rank of at least 1"});
    }
    for (const auto& [pattern, alpha] : lora.alpha_pattern) {
        if (std::isfinite(alpha)) continue;
        faults.add({.what = fmt::format("LoRA alpha {} is not a finite number", alpha),
                    .where = fmt::format("alpha_pattern, {} = {}", pattern, alpha),
                    .remedy = "a finite number"});
    }
    if (lora.target_modules.empty() && lora.target_pattern.empty()) {
        faults.add({.what = "no linear layer is named to adapt",
                    .where = "target_modules is empty",
                    .remedy = linear_layers_there_are()});
    }
}

/// Values of single modules, by the first expression that matches; as PEFT reads rank_pattern.
template <class Value>
class Patterns {
public:
    Patterns(const std::vector<std::pair<std::string, Value>>& entries, std::string_view field) {
        for (const auto& [expression, value] : entries) {
            entries_.emplace_back(
                NamePattern("(.*\\.)?(" + expression + ")", fmt::format("field {}", field)), value);
        }
    }
    Value value_of(const std::string& name, Value otherwise) const {
        for (const auto& [pattern, value] : entries_) {
            if (pattern.matches(name)) return value;
        }
        return otherwise;
    }

private:
    std::vector<std::pair<NamePattern, Value>> entries_;
};

/// Which modules have an adapter.
class Targets {
public:
    explicit Targets(const LoraConfig& lora) : names_(lora.target_modules) {
        if (!lora.target_pattern.empty()) {
            names_ = {lora.target_pattern};
            pattern_.emplace(lora.target_pattern, "field target_modules");
        }
        used_.assign(names_.size(), false);
    }

    bool contain(const std::string& name) {
        bool found = false;
        for (std::size_t t = 0; t < names_.size(); ++t) {
            if (!(pattern_ ? pattern_->matches(name) : matches(name, names_[t]))) continue;
            found = true;
            used_[t] = true;
        }
        return found;
    }

    /// A fault for each target that matched nothing.
    void require_used(Faults& faults) const {
        for (std::size_t t = 0; t < used_.size(); ++t) {
            if (used_[t]) continue;
            faults.add(
                {.what = fmt::format("\"{}\" matches no linear layer of the model", names_[t]),
                 .where = fmt::format("target_modules, entry {}", t + 1),
                 .remedy = linear_layers_there_are()});
        }
    }

private:
    std::vector<std::string> names_;
    std::optional<NamePattern> pattern_;
    std::vector<bool> used_;
};

Span make_span(Part part, std::int64_t rows, std::int64_t cols, std::int64_t& size) {
    const Span span{part, size, rows, cols};
    size += span.size();
    return span;
}

/// The layer's number and linear layer of "layers.3.self_attn.q_proj".
std::pair<std::int64_t, Linear> parse_module_name(const std::string& name) {
    constexpr std::string_view prefix = "layers.";
    if (name.starts_with(prefix)) {
        std::int64_t layer = -1;
        const char* const end = name.data() + name.size();
        const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, layer);
        for (std::size_t i = 0; i < linear_count && error == std::errc{}; ++i) {
            const auto linear = static_cast<Linear>(i);
            if (module_name(layer, linear) == name) return {layer, linear};
        }
    }
    throw ShapeError({.what = "a module of this name is no linear layer of a decoder",
                      .where = name,
                      .remedy = "make the layout with make_lora_layout"});
}

}  // namespace

std::string_view to_string(Linear linear) {
    return name_of(linear).name;
}

std::string module_name(std::int64_t layer, Linear linear) {
    return fmt::format("layers.{}.{}.{}", layer, name_of(linear).block, name_of(linear).name);
}

std::string linear_layers_there_are() {
    std::vector<std::string_view> names;
    for (const LinearName& linear : linear_names) names.push_back(linear.name);
    return fmt::format("linear layers there are: {}; or {} for all of them", fmt::join(names, ", "),
                       all_linear);
}

LinearShape linear_shape(const ModelConfig& config, Linear linear) {
    switch (linear) {
        case Linear::q:
            return {config.q_size(), config.hidden_size};
        case Linear::k:
        case Linear::v:
            return {config.kv_size(), config.hidden_size};
        case Linear::o:
            return {config.hidden_size, config.q_size()};
        case Linear::gate:
        case Linear::up:
            return {config.intermediate_size, config.hidden_size};
        case Linear::down:
            break;
    }
    return {config.hidden_size, config.intermediate_size};
}

Layout make_lora_layout(const ModelConfig& model, const LoraConfig& lora) {
    Faults faults;
    check_lora(lora, faults);
    Layout layout;
    Targets targets(lora);
    const Patterns<int> ranks(lora.rank_pattern, "rank_pattern");
    const Patterns<double> alphas(lora.alpha_pattern, "alpha_pattern");
    for (std::int64_t layer = 0; layer < model.layers; ++layer) {
        for (std::size_t i = 0; i < linear_count; ++i) {
            const auto linear = static_cast<Linear>(i);
            const std::string name = module_name(layer, linear);
            const std::string whole_name = "model." + name;
            if (!targets.contain(whole_name)) continue;
            const int r = ranks.value_of(whole_name, lora.r);
            const double alpha = alphas.value_of(whole_name, lora.alpha);
            const LinearShape shape = linear_shape(model, linear);
            const Span a = make_span(Part::lora_a, r, shape.in, layout.size);
            const Span b = make_span(Part::lora_b, shape.out, r, layout.size);
            const double scale = alpha / (lora.use_rslora ? std::sqrt(r) : r);
            layout.modules.push_back({name, {a, b}, scale});
        }
    }
    targets.require_used(faults);
    faults.throw_if_any();
    return layout;
}

std::vector<float> initial_adapter(const Layout& layout, std::uint64_t seed) {
    std::vector<float> x(static_cast<std::size_t>(layout.size), 0.0F);
    for (std::size_t m = 0; m < layout.modules.size(); ++m) {
        for (const Span& span : layout.modules[m].spans) {
            if (span.part != Part::lora_a) continue;
            RandomStream stream({.seed = seed,
                                 .purpose = Purpose::adapter_init,
                                 .client = static_cast<std::uint32_t>(m)});
            const double bound = 1 / std::sqrt(static_cast<double>(span.cols));
            for (std::int64_t i = 0; i < span.size(); ++i) {
                x[static_cast<std::size_t>(span.offset + i)] =
                    static_cast<float>(bound * (2 * stream.uniform() - 1));
            }
        }
    }
    return x;
}

AdapterMap::AdapterMap(const Layout& layout, std::int64_t layers)
    : modules_(static_cast<std::size_t>(layers)) {
    for (auto& layer : modules_) layer.fill(-1);
    if (is_dense(layout)) return;
    for (std::size_t m = 0; m < layout.modules.size(); ++m) {
        const Module& module = layout.modules[m];
        const auto [layer, linear] = parse_module_name(module.name);
        const bool factors = module.spans.size() == 2 && module.spans[0].part == Part::lora_a &&
                             module.spans[1].part == Part::lora_b &&
                             module.spans[0].rows == module.spans[1].cols;
        if (layer >= layers || !factors) {
            throw ShapeError({.what = "a layout does not fit the model",
                              .where = fmt::format("module {} of {} layers", module.name, layers),
                              .remedy = "make the layout with make_lora_layout"});
        }
        modules_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(linear)] =
            static_cast<int>(m);
        max_rank_ = std::max(max_rank_, static_cast<int>(module.spans[0].rows));
    }
}

}  // namespace fedit
