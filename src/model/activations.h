// model/activations.h: where each intermediate result of one pass lies in the decoder's arena.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <vector>

#include "fedit/model/decoder.h"
#include "fedit/tensor/tensor.h"

namespace fedit {

/// What one decoder layer computes, in the back end's type of activations (lse: fp32). "rows" are
/// all rows of the pass; "top" rows are all rows too, but in the last layer only those that predict
/// a target, from the attention's output on.
struct LayerActivations {
    TensorView x;            ///< rows x hidden: the residual stream that enters the layer
    TensorView h_attention;  ///< rows x hidden: normalised x
    TensorView qkv;          ///< rows x (q + 2 kv); with norms of q and k, as they enter them
    TensorView qk;           ///< rows x (q + kv): q and k rotated; columns of qkv where it can be
    float* lse = nullptr;    ///< heads x rows
    TensorView attention;    ///< rows x q
    TensorView o_input;      ///< top x q: attention, or its gathered rows
    TensorView residual;     ///< top x hidden: x, or its gathered rows
    TensorView x_mid;        ///< top x hidden: the residual stream between attention and MLP
    TensorView h_mlp;        ///< top x hidden: normalised x_mid
    TensorView gate_up;      ///< top x 2 intermediate; backward writes its gradient here
    TensorView act;          ///< top x intermediate: silu(gate) * up
    TensorView out;          ///< top x hidden: down's product; the next layer's x before its norm
    std::array<TensorView, linear_count> s;  ///< top or rows x rank: each adapter's inner product
};

/// Linear layers that share an input, at most: q, k and v.
inline constexpr std::int64_t most_on_one_input = 3;

/// All results of a pass.
struct Activations {
    std::vector<LayerActivations> layers;
    TensorView y;  ///< target rows x hidden: the head's input
    // Backward's scratch; empty when evaluating. The d_top_ ones are of the last layer's top rows.
    TensorView dx;               ///< rows x hidden: gradient of the residual stream
    TensorView d_top_x;          ///< target rows x hidden
    TensorView dh;               ///< rows x hidden
    TensorView d_qkv;            ///< rows x (q + 2 kv)
    TensorView d_attention;      ///< rows x q
    TensorView d_top_attention;  ///< target rows x q
    TensorView d_act;            ///< rows x intermediate
    TensorView ds;               ///< rows x the ranks of layers that share an input
};

/// Hands out pieces of a block, at multiples of 256 bytes, in order; without a block it only
/// counts.
class Arena {
public:
    explicit Arena(std::byte* block) : block_(block) {}
    std::byte* piece(std::size_t bytes);
    TensorView matrix(Dtype dtype, std::int64_t rows, std::int64_t cols) {
        const auto elements = static_cast<std::size_t>(rows * cols);
        return dense_view(piece(elements * size_of(dtype)), dtype, rows, cols);
    }
    std::size_t used() const { return used_; }

private:
    std::byte* block_;
    std::size_t used_ = 0;
};

/// What decides a plan besides the size.
struct ActivationPlan {
    const ModelConfig& config;
    const AdapterMap& adapters;
    const std::vector<std::int64_t>& ranks;  ///< of each module
    std::int64_t lowest_layer = 0;           ///< layers below keep nothing for backward
    Dtype dtype = Dtype::fp32;
    Recompute recompute = Recompute::none;
    bool dense = false;  ///< weights of the base train: their inputs are kept
    /// The back end computes silu(gate) * up again for the adapter above it.
    bool computes_act_again = false;

    /// Whether a gradient is made from the input of these linear layers, which share one.
    bool reads_input_of(std::int64_t layer, std::initializer_list<Linear> users) const;
    /// Whether silu(gate) * up is read.
    bool reads_act(std::int64_t layer) const {
        return dense || (!computes_act_again && reads_input_of(layer, {Linear::down}));
    }
};

/// Places all results of a pass. When training, a layer keeps what its backward reads and does not
/// compute again; all else shares scratch with the other layers.
Activations place_activations(const ActivationPlan& plan, const PassSize& size, Pass pass,
                              Arena& arena);

}  // namespace fedit
