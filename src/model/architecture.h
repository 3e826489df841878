// model/architecture.h: in what the supported architectures differ, read from config.json.
#pragma once

#include "fedit/model/model_config.h"
#include "model/faults.h"

namespace fedit {

/// What `architectures` and `model_type` say, which must agree. Throws InputError naming both
/// fields' values and what is supported.
Architecture parse_architecture(const Json& config);

/// max_position_embeddings where a config leaves it out.
std::int64_t default_max_positions(Architecture architecture);

/// Biases and norms of q and k, which some architectures have without a field that says so.
void read_projections(const Json& config, ModelConfig& out, Faults& faults);

/// The window of each layer, from sliding_window, use_sliding_window, max_window_layers and
/// layer_types; `out` has its architecture and layers.
void read_windows(const Json& config, ModelConfig& out, Faults& faults);

}  // namespace fedit
