// model/weights.h: the frozen base as a back end wants it, in one block of its memory that all
// ranks of a node, or of a device, share.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "fedit/model/hf_folder.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// One frozen product; bias may be null.
struct LinearWeight {
    PackedWeight weight;
    const float* bias = nullptr;
};

/// q, k, v are one product (rows q, then k, then v); gate and up likewise.
struct LayerWeights {
    const float* attention_norm = nullptr;
    LinearWeight qkv, o;
    const float *q_norm = nullptr, *k_norm = nullptr;  ///< (head_dim), where the model has them
    const float* mlp_norm = nullptr;
    LinearWeight gate_up, down;
};

/// Views of the whole frozen base in back-end memory, which belongs to who filled it.
struct Weights {
    TensorView embedding;  ///< vocab x hidden, fp32; read-only
    std::vector<LayerWeights> layers;
    const float* final_norm = nullptr;
    PackedWeight head;  ///< vocab x hidden
};

/// Where each packed weight lies in one block of memory. Offsets only: ranks that map the block at
/// different addresses view the same weights.
class WeightPlan {
public:
    WeightPlan(const ModelConfig& config, const Backend& backend, Dtype dtype);
    std::size_t bytes() const;

    /// Reads and packs the folder's tensors into `memory` (back-end memory, bytes() long, 64-byte
    /// aligned, else ShapeError). The host holds one product at a time; up to `threads` threads
    /// read. One rank of those that share the block calls it. Throws InputError for a weight that
    /// is not finite.
    void fill(std::span<std::byte> memory, const HfFolder& folder, Backend& backend,
              int threads = 1, const BytesRead& told = {}) const;
    /// Views of a filled block.
    Weights view(std::span<const std::byte> memory) const;

private:
    class Filler;
    struct Block {
        std::size_t offset = 0, bytes = 0;
    };
    struct LayerBlocks {
        Block attention_norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, mlp_norm, gate_up,
            gate_up_bias, down, down_bias;
    };
    Block reserve(std::size_t bytes);
    void check(std::span<const std::byte> memory) const;

    ModelConfig config_;
    Dtype dtype_;
    Block embedding_, final_norm_, head_;
    std::vector<LayerBlocks> layers_;
    std::size_t bytes_ = 0;
};

}  // namespace fedit
