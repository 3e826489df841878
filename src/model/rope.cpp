// model/rope.cpp: both spellings of the rotary position embedding, and its inverse frequencies.
#include "model/rope.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <string_view>

#include "model/faults.h"

namespace fedit {

namespace {

struct RopeName {
    const char* name;
    RopeType type;
};
constexpr auto rope_names = std::to_array<RopeName>(
    {{"default", RopeType::standard}, {"linear", RopeType::linear}, {"llama3", RopeType::llama3}});

constexpr auto known_keys = std::to_array<std::string_view>(
    {"rope_type", "type", "rope_theta", "factor", "low_freq_factor", "high_freq_factor",
     "original_max_position_embeddings", "partial_rotary_factor"});

RopeType parse_type(const Json& rope) {
    std::string name = "default";
    if (rope.has("type")) name = rope["type"].as_string();
    if (rope.has("rope_type")) {
        if (rope.has("type") && rope["rope_type"].as_string() != name) {
            throw InputError({.what = fmt::format("rope_type = {} and type = \"{}\" differ",
                                                  rope["rope_type"].excerpt(), name),
                              .where = rope.where(),
                              .remedy = "keep one of them"});
        }
        name = rope["rope_type"].as_string();
    }
    for (const RopeName& known : rope_names) {
        if (name == known.name) return known.type;
    }
    throw InputError({.what = fmt::format("rope type \"{}\" is not supported", name),
                      .where = rope[rope.has("rope_type") ? "rope_type" : "type"].where(),
                      .remedy = "supported: default, linear, llama3"});
}

double number_above(const Json& rope, const char* key, double bound) {
    const double value = rope[key].as_double();
    if (!(value > bound) || !std::isfinite(value)) {
        throw InputError({.what = fmt::format("{} = {} must be above {}", key, value, bound),
                          .where = rope[key].where(),
                          .remedy = "correct the field"});
    }
    return value;
}

void refuse_unknown(const Json& rope, Faults& faults) {
    for (const std::string& key : rope.keys()) {
        const bool known = std::find(known_keys.begin(), known_keys.end(), key) != known_keys.end();
        if (known || !rope.has(key)) continue;
        faults.add({.what = fmt::format("{} = {} is not supported for rotary position embeddings",
                                        key, rope[key].excerpt()),
                    .where = rope[key].where(),
                    .remedy = "supported types: default, linear, llama3"});
    }
    if (rope.has("partial_rotary_factor") && rope["partial_rotary_factor"].as_double() != 1) {
        faults.add({.what = fmt::format("partial_rotary_factor = {} is not supported",
                                        rope["partial_rotary_factor"].excerpt()),
                    .where = rope["partial_rotary_factor"].where(),
                    .remedy = "supported: 1"});
    }
}

void read_scaling(const Json& rope, RopeConfig& out, Faults& faults) {
    faults.check([&] { refuse_unknown(rope, faults); });
    faults.check([&] { out.type = parse_type(rope); });
    if (out.type == RopeType::standard) return;
    faults.check([&] { out.factor = number_above(rope, "factor", 0); });
    if (out.type != RopeType::llama3) return;
    faults.check([&] { out.low_freq_factor = number_above(rope, "low_freq_factor", 0); });
    faults.check([&] {
        out.high_freq_factor = number_above(rope, "high_freq_factor", out.low_freq_factor);
    });
    faults.check([&] {
        out.original_max_positions =
            rope["original_max_position_embeddings"].as_int(1, std::int64_t{1} << 40);
    });
}

/// The object that describes the scaling, in either spelling.
std::optional<Json> scaling_object(const Json& config) {
    const bool old_spelling = config.has("rope_scaling");
    const bool new_spelling = config.has("rope_parameters");
    if (old_spelling && new_spelling) {
        throw InputError({.what = "rope_scaling and rope_parameters are both given",
                          .where = config["rope_scaling"].where(),
                          .remedy = "keep one of them"});
    }
    if (!old_spelling && !new_spelling) return std::nullopt;
    const Json rope = config[old_spelling ? "rope_scaling" : "rope_parameters"];
    if (!rope.is_object()) {
        throw InputError({.what = fmt::format("{} is not an object", rope.excerpt()),
                          .where = rope.where(),
                          .remedy = "an object with rope_type, or null"});
    }
    return rope;
}

void read_theta(const Json& config, const std::optional<Json>& rope, RopeConfig& out) {
    const bool inside = rope && rope->has("rope_theta");
    const bool outside = config.has("rope_theta");
    if (inside) out.theta = number_above(*rope, "rope_theta", 0);
    if (!outside) return;
    const double theta = number_above(config, "rope_theta", 0);
    if (inside && theta != out.theta) {
        throw InputError(
            {.what = fmt::format("rope_theta = {} and rope_theta = {} differ", theta, out.theta),
             .where = config["rope_theta"].where() + "; " + (*rope)["rope_theta"].where(),
             .remedy = "keep one of them"});
    }
    out.theta = theta;
}

/// One frequency after Llama 3.1's scaling: long waves are divided by `factor`, short ones kept.
double llama3_frequency(double inv, const RopeConfig& rope) {
    const double wavelength = 2 * std::numbers::pi / inv;
    const double old = static_cast<double>(rope.original_max_positions);
    if (wavelength > old / rope.low_freq_factor) return inv / rope.factor;
    if (wavelength < old / rope.high_freq_factor) return inv;
    const double t =
        (old / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    return inv * ((1 - t) / rope.factor + t);
}

}  // namespace

RopeConfig parse_rope(const Json& config) {
    RopeConfig out;
    Faults faults;
    std::optional<Json> rope;
    faults.check([&] { rope = scaling_object(config); });
    if (rope) read_scaling(*rope, out, faults);
    faults.check([&] { read_theta(config, rope, out); });
    faults.throw_if_any();
    return out;
}

std::vector<float> rope_inverse_frequencies(const ModelConfig& config) {
    std::vector<float> out;
    const RopeConfig& rope = config.rope;
    for (std::int64_t i = 0; i < config.head_dim; i += 2) {
        const double exponent = static_cast<double>(i) / static_cast<double>(config.head_dim);
        double inv = std::pow(rope.theta, -exponent);
        if (rope.type == RopeType::linear) inv /= rope.factor;
        if (rope.type == RopeType::llama3) inv = llama3_frequency(inv, rope);
        out.push_back(static_cast<float>(inv));
    }
    return out;
}

}  // namespace fedit
