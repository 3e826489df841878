// model/decoder_impl.h: the decoder's state and its passes.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "fedit/model/decoder.h"
#include "model/activations.h"
#include "model/dense_offsets.h"

namespace fedit {

/// What depends on a row, for all rows or for the rows that predict a target.
struct RowSet {
    std::span<const std::int64_t> slot_begin;
    std::span<const std::int64_t> counter;
};

/// Which way the rotary position embedding turns.
enum class Rotation : std::uint8_t { forward, backward };

/// Sequences of a cache that a pass appends to; sequence i of the batch takes the last rows of
/// [begin[i], end[i]).
struct CachedSequences {
    const KvCache& cache;
    std::vector<std::int64_t> begin, end;
};

/// Keys and values that a pass attends to.
struct AttentionKeys {
    TensorView k, v;
    Sequences sequences;
};

/// The four places of a layer where adapters sit, from the bottom.
enum class Stage : std::uint8_t { qkv, o, gate_up, down };
inline constexpr std::int64_t stage_count = 4;

struct Decoder::Impl {
    Impl(const ModelConfig& model_config, const Weights& model_weights,
         const Layout& adapter_layout, Backend& compute, Recompute mode);

    std::size_t activation_bytes(const PassSize& size, Pass pass) const;
    void reserve(const PassSize& size, Pass pass);

    /// Runs all layers; leaves the normalised target rows in activations.y. `cached`: the sequences
    /// that the batch goes on with, or null where it holds whole sequences.
    void forward(const PackedBatch& batch, std::span<const AdapterSlot> adapter_slots, Pass pass,
                 const CachedSequences* cached = nullptr);
    /// Makes room for the batch in the cache, and checks that its positions follow.
    CachedSequences append(const PackedBatch& batch, KvCache& cache,
                           std::span<const std::int64_t> which) const;
    /// Logits of the target rows of the last pass, in host memory.
    std::vector<float> head_logits();
    /// Adds the adapters' gradients, given the gradient of activations.y in activations.dh.
    void backward(const PackedBatch& batch);

    /// Packs what trains in the base anew from `x`, which is back-end memory.
    void load(const float* x);
    std::size_t packed_dense_bytes() const;
    /// Where the head's gradient is added; no data if it is frozen.
    TensorView head_gradient() const;

    const ModelConfig& config;
    Weights weights;  ///< views; those that train point into the vector given to load()
    const Layout& layout;
    Backend& backend;
    Recompute recompute;
    Dtype dtype;  ///< of activations
    DenseOffsets dense;
    DeviceBuffer packed_dense;
    std::vector<float> inv_freq;  ///< of sequences up to max_positions
    AdapterMap adapters;
    std::vector<std::int64_t> ranks;  ///< of each module
    /// layer * stage_count + stage of the lowest adapter: nothing below it needs a gradient.
    std::int64_t lowest;

    DeviceBuffer arena;
    DeviceBuffer logits;  ///< fp32, for extend() and logits(); grows
    Activations activations;

private:
    ActivationPlan plan() const;
    void begin(const PackedBatch& batch, std::span<const AdapterSlot> adapter_slots, Pass pass);
    void check_batch(const PackedBatch& batch) const;
    void check_slots(const PackedBatch& batch, Pass pass) const;

    /// From the residual stream in a.x to the attention's output, given normalised a.h_attention.
    void forward_attention(std::size_t layer, const PackedBatch& batch);
    /// The batch's own keys and values, or the cache's once these are stored there.
    AttentionKeys attention_keys(TensorView k, TensorView v, std::size_t layer,
                                 const PackedBatch& batch);
    /// From there to silu(gate) * up in a.act.
    void forward_mlp(std::size_t layer);
    /// The residual stream after it, less what entered, in a.out.
    void forward_down(std::size_t layer);

    /// a.h_attention from a.x, which is whole.
    void normalise_stream(std::size_t layer);
    /// Computes again all of a layer that its backward reads, but a.h_attention, from a.x.
    void recompute_layer(std::size_t layer, const PackedBatch& batch);
    /// Computes again what `light` did not keep of the MLP, and of the attention's input.
    void recompute_mlp_inputs(std::size_t layer);
    void recompute_attention_input(std::size_t layer);
    void backward_mlp(std::size_t layer, TensorView dx);
    void backward_attention(std::size_t layer, const PackedBatch& batch);
    void backward_o(std::size_t layer, const PackedBatch& batch);

    /// Whether something below this stage trains, so that the stage must pass its gradient on.
    bool passes_gradient(std::size_t layer, Stage stage) const {
        return static_cast<std::int64_t>(layer) * stage_count + static_cast<std::int64_t>(stage) >
               lowest;
    }
    bool is_last(std::size_t layer) const { return layer + 1 == weights.layers.size(); }
    const RowSet& rows_after_attention(std::size_t layer) const {
        return is_last(layer) ? top_rows_ : all_rows_;
    }

    AttentionShape attention_shape(std::size_t layer) const;
    /// That of the batch's rows [begin, end) with these frequencies.
    Rotary rotary(const PackedBatch& batch, std::int64_t begin, std::int64_t end,
                  std::span<const float> frequencies) const;
    /// Whether a sequence has frequencies of its own: with rotary type dynamic, one beyond
    /// max_positions.
    bool turns_slower(const PackedBatch& batch, std::size_t sequence) const;
    /// Whether inv_freq serves the whole batch.
    bool turns_alike(const PackedBatch& batch) const;
    /// q and k, which are a.qk's, from their projections with all that is added to these.
    void forward_queries_and_keys(std::size_t layer, const PackedBatch& batch);
    /// q and k, normalised, from their projections.
    void norm_heads(std::size_t layer);
    /// Rotates q and k, each sequence with its own frequencies.
    void rotate(TensorView qk, const PackedBatch& batch, Rotation rotation);

    /// A linear layer's output, or the gradient of it.
    struct Output {
        Linear linear;
        TensorView y;
        std::int64_t turned_heads = 0;
    };
    /// Those of the outputs whose layers have adapters, for one call of the back end.
    std::span<const LoraLayer> lora_layers(std::size_t layer,
                                           std::initializer_list<Output> outputs);
    bool has_adapter(std::size_t layer, Linear linear) const {
        return !slots_.empty() && adapters.module(static_cast<std::int64_t>(layer), linear) >= 0;
    }
    /// Outputs += the adapters' parts, of those layers that have one; then these are turned.
    void lora(std::size_t layer, std::initializer_list<Output> outputs, const RowSet& rows,
              TensorView x, const Rotary& turn = {});
    /// dx += the adapters' parts, unless dx.data is null; adds the adapters' gradients.
    void lora_backward(std::size_t layer, std::initializer_list<Output> gradients,
                       const RowSet& rows, TensorView dx, TensorView x);
    /// Backward's scratch for these layers.
    TensorView ds_of(std::span<const LoraLayer> layers) const;
    /// Adds the gradients of a product's weight and bias, where they train.
    void add_weight_gradient(const DenseLinear& where, TensorView dy, TensorView x);
    /// The same for a norm's gain of `size` at `offset`; x is what it normalised.
    void add_gain_gradient(std::int64_t offset, std::int64_t size, TensorView dy, TensorView x);
    /// Where a dense gradient at `offset` is added, or null if that tensor is frozen.
    float* dense_gradient(std::int64_t offset) const {
        return offset == frozen ? nullptr : slots_.front().gradient + offset;
    }
    const DenseLayer& dense_layer(std::size_t layer) const { return dense.layers[layer]; }
    /// A linear layer's factors in each slot, for the module that it is.
    std::span<const LoraSlot> factors(Linear linear, int module);
    Dropout dropout(const RowSet& rows) const;

    // Of the current pass.
    std::span<const AdapterSlot> slots_;
    Pass pass_ = Pass::evaluate;
    const CachedSequences* cached_ = nullptr;
    RowSet all_rows_, top_rows_;
    std::vector<std::int64_t> top_slot_begin_, top_counter_;
    std::vector<std::uint64_t> slot_keys_;
    std::array<std::vector<LoraSlot>, linear_count> factors_;
    std::vector<LoraLayer> lora_layers_;
};

}  // namespace fedit
