// model/dense_offsets.h: where each weight that trains lies in the flat vector.
#pragma once

#include <cstdint>
#include <vector>

#include "fedit/model/model_config.h"
#include "fedit/tensor/layout.h"

namespace fedit {

/// Offset of a tensor's first float in a dense layout's vector, or this if it does not train.
inline constexpr std::int64_t frozen = -1;

/// A product and its bias.
struct DenseLinear {
    std::int64_t weight = frozen, bias = frozen;
};

struct DenseLayer {
    std::int64_t attention_norm = frozen, q_norm = frozen, k_norm = frozen, mlp_norm = frozen;
    DenseLinear qkv, o, gate_up, down;
};

struct DenseOffsets {
    /// All frozen if the layout is not dense. Throws ShapeError if parts of one product are not
    /// adjacent.
    DenseOffsets(const ModelConfig& model, const Layout& layout);

    bool trains = false;  ///< any of them
    std::int64_t embedding = frozen, final_norm = frozen;
    std::int64_t head = frozen;  ///< the embedding's if the head is tied
    std::vector<DenseLayer> layers;
};

}  // namespace fedit
