// model/rope.cpp: both spellings of the rotary position embedding, and its inverse frequencies.
#include "model/rope.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <string_view>
#include <vector>

#include "model/faults.h"

namespace fedit {

namespace {

struct RopeName {
    const char* name;
    RopeType type;
    /// Fields that the type reads, besides its name and rope_theta.
    std::vector<std::string_view> fields;
};
const std::array<RopeName, 5> rope_names{{
    {"default", RopeType::standard, {}},
    {"linear", RopeType::linear, {"factor"}},
    {"dynamic", RopeType::dynamic, {"factor"}},
    {"llama3",
     RopeType::llama3,
     {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}},
    {"yarn",
     RopeType::yarn,
     {"factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
      "mscale", "mscale_all_dim", "truncate"}},
}};
constexpr auto common_fields =
    std::to_array<std::string_view>({"rope_type", "type", "rope_theta", "partial_rotary_factor"});

std::string supported_types() {
    std::vector<std::string_view> names;
    for (const RopeName& known : rope_names) names.emplace_back(known.name);
    return fmt::format("supported: {}", fmt::join(names, ", "));
}

const RopeName& parse_type(const Json& rope) {
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
        if (name == known.name) return known;
    }
    throw InputError({.what = fmt::format("rope type \"{}\" is not supported", name),
                      .where = rope[rope.has("rope_type") ? "rope_type" : "type"].where(),
                      .remedy = supported_types()});
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

void refuse_unknown(const Json& rope, const RopeName& type, Faults& faults) {
    const auto holds = [](const auto& list, const std::string& key) {
        return std::find(list.begin(), list.end(), key) != list.end();
    };
    for (const std::string& key : rope.keys()) {
        if (holds(common_fields, key) || holds(type.fields, key) || !rope.has(key)) continue;
        faults.add({.what = fmt::format("{} = {} is not supported for rotary position embeddings "
                                        "of type {}",
                                        key, rope[key].excerpt(), type.name),
                    .where = rope[key].where(),
                    .remedy = type.fields.empty()
                                  ? "this type has no fields of its own"
                                  : fmt::format("its fields: {}", fmt::join(type.fields, ", "))});
    }
    if (rope.has("partial_rotary_factor") && rope["partial_rotary_factor"].as_double() != 1) {
        faults.add({.what = fmt::format("partial_rotary_factor = {} is not supported",
                                        rope["partial_rotary_factor"].excerpt()),
                    .where = rope["partial_rotary_factor"].where(),
                    .remedy = "supported: 1"});
    }
}

/// original_max_position_embeddings, which some configs hold beside the rotary object; without it
/// the model was never extended.
std::int64_t read_original_positions(const Json& config, const Json& rope,
                                     std::int64_t max_positions) {
    constexpr const char* key = "original_max_position_embeddings";
    const auto read = [&](const Json& object) {
        return object[key].as_int(1, std::int64_t{1} << 40);
    };
    if (!config.has(key)) return rope.has(key) ? read(rope) : max_positions;
    if (rope.has(key) && read(rope) != read(config)) {
        throw InputError(
            {.what = fmt::format("{} = {} and {} = {} differ", key, read(config), key, read(rope)),
             .where = config[key].where() + "; " + rope[key].where(),
             .remedy = "keep one of them"});
    }
    return read(config);
}

void read_llama3(const Json& rope, RopeConfig& out, Faults& faults) {
    faults.check([&] { out.low_freq_factor = number_above(rope, "low_freq_factor", 0); });
    faults.check([&] {
        out.high_freq_factor = number_above(rope, "high_freq_factor", out.low_freq_factor);
    });
}

/// The factor on cosines and sines that YaRN takes from its scaling.
double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void read_yarn(const Json& rope, RopeConfig& out, Faults& faults) {
    faults.check([&] {
        if (rope.has("beta_slow")) out.beta_slow = number_above(rope, "beta_slow", 0);
        if (rope.has("beta_fast")) out.beta_fast = number_above(rope, "beta_fast", 0);
        if (out.beta_fast < out.beta_slow) {
            throw InputError({.what = fmt::format("beta_fast = {} is below beta_slow = {}",
                                                  out.beta_fast, out.beta_slow),
                              .where = rope.where(),
                              .remedy = "correct one of the two fields (32 and 1 by default)"});
        }
    });
    faults.check([&] { out.truncate = rope.bool_or("truncate", true); });
    faults.check([&] {
        const double mscale = rope.number_or("mscale", 0);
        const double all_dim = rope.number_or("mscale_all_dim", 0);
        if (rope.has("attention_factor")) {
            out.attention_scale = number_above(rope, "attention_factor", 0);
        } else if (mscale != 0 && all_dim != 0) {
            out.attention_scale = yarn_scale(out.factor, mscale) / yarn_scale(out.factor, all_dim);
        } else {
            out.attention_scale = yarn_scale(out.factor, 1);
        }
    });
}

void read_scaling(const Json& config, const Json& rope, std::int64_t max_positions, RopeConfig& out,
                  Faults& faults) {
    const RopeName& type = parse_type(rope);
    out.type = type.type;
    faults.check([&] { refuse_unknown(rope, type, faults); });
    if (out.type == RopeType::standard) return;
    faults.check([&] { out.factor = number_above(rope, "factor", 0); });
    if (out.type == RopeType::linear || out.type == RopeType::dynamic) return;
    faults.check(
        [&] { out.original_max_positions = read_original_positions(config, rope, max_positions); });
    if (out.type == RopeType::llama3) {
        read_llama3(rope, out, faults);
    } else {
        read_yarn(rope, out, faults);
    }
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

/// The base under dynamic NTK scaling for a sequence of `length` positions: that of training up to
/// max_positions, then growing.
double dynamic_base(const ModelConfig& config, std::int64_t length) {
    const RopeConfig& rope = config.rope;
    if (length <= config.max_positions) return rope.theta;
    const double dim = static_cast<double>(config.head_dim);
    const double stretch = static_cast<double>(length) / static_cast<double>(config.max_positions);
    return rope.theta * std::pow(rope.factor * stretch - (rope.factor - 1), dim / (dim - 2));
}

/// YaRN's ramp: 0 for pairs of dimensions that turn fast and keep their frequency, 1 for those that
/// turn slowly and are divided by `factor`.
class YarnRamp {
public:
    YarnRamp(const RopeConfig& rope, std::int64_t head_dim)
        : low_(pair_that_turns(rope.beta_fast, rope, head_dim)),
          high_(pair_that_turns(rope.beta_slow, rope, head_dim)) {
        if (rope.truncate) {
            low_ = std::floor(low_);
            high_ = std::ceil(high_);
        }
        low_ = std::max(low_, 0.0);
        high_ = std::min(high_, static_cast<double>(head_dim - 1));
        if (low_ == high_) high_ += 0.001;
    }
    double operator()(std::int64_t pair) const {
        return std::clamp((static_cast<double>(pair) - low_) / (high_ - low_), 0.0, 1.0);
    }

private:
    /// The (fractional) pair that turns `rotations` times over the positions of training.
    static double pair_that_turns(double rotations, const RopeConfig& rope, std::int64_t head_dim) {
        const double old = static_cast<double>(rope.original_max_positions);
        return static_cast<double>(head_dim) * std::log(old / (rotations * 2 * std::numbers::pi)) /
               (2 * std::log(rope.theta));
    }
    double low_, high_;
};

}  // namespace

RopeConfig parse_rope(const Json& config, std::int64_t max_positions) {
    RopeConfig out;
    Faults faults;
    std::optional<Json> rope;
    faults.check([&] { rope = scaling_object(config); });
    faults.check([&] {
        if (rope) read_scaling(config, *rope, max_positions, out, faults);
    });
    faults.check([&] { read_theta(config, rope, out); });
    faults.throw_if_any();
    return out;
}

std::vector<float> rope_inverse_frequencies(const ModelConfig& config, std::int64_t length) {
    std::vector<float> out;
    const RopeConfig& rope = config.rope;
    const double base = rope.type == RopeType::dynamic ? dynamic_base(config, length) : rope.theta;
    for (std::int64_t i = 0; i < config.head_dim; i += 2) {
        const double exponent = static_cast<double>(i) / static_cast<double>(config.head_dim);
        double inv = std::pow(base, -exponent);
        if (rope.type == RopeType::linear) inv /= rope.factor;
        if (rope.type == RopeType::llama3) inv = llama3_frequency(inv, rope);
        if (rope.type == RopeType::yarn) {
            const double slow = YarnRamp(rope, config.head_dim)(i / 2);
            inv *= slow / rope.factor + (1 - slow);
        }
        out.push_back(static_cast<float>(inv));
    }
    return out;
}

}  // namespace fedit
