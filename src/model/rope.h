// model/rope.h: the rotary position embedding that a config.json asks for.
#pragma once

#include "fedit/model/model_config.h"

namespace fedit {

/// Reads rope_theta and rope_scaling, or rope_parameters. Throws InputError with all faults.
RopeConfig parse_rope(const Json& config, std::int64_t max_positions);

}  // namespace fedit
