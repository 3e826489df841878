// model/linear_shape.h: names and shapes of a decoder layer's linear layers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fedit/model/adapter.h"

namespace fedit {

/// PEFT's word for every linear layer but the head.
inline constexpr std::string_view all_linear = "all-linear";

struct LinearShape {
    std::int64_t out = 0, in = 0;
};
LinearShape linear_shape(const ModelConfig& config, Linear linear);

/// "layers.3.self_attn.q_proj".
std::string module_name(std::int64_t layer, Linear linear);

/// The names that a target may have, for an error's remedy.
std::string linear_layers_there_are();

}  // namespace fedit
