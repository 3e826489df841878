// model/decoder_backward.cpp: the adapters' gradients, from the top down to the lowest adapter.
#include "model/decoder_impl.h"

namespace fedit {

namespace {

/// Clears a dense matrix of the arena, two elements of bf16 at a time: pieces of the arena are
/// padded, and 0 has no bits.
void zero(Backend& backend, TensorView dense) {
    const std::size_t bytes =
        static_cast<std::size_t>(dense.rows * dense.cols) * size_of(dense.dtype);
    const std::size_t floats = (bytes + sizeof(float) - 1) / sizeof(float);
    backend.fill({static_cast<float*>(dense.data), floats}, 0.0F);
}

}  // namespace

void Decoder::Impl::backward(const PackedBatch& batch) {
    const Activations& a = activations;
    zero(backend, a.d_top_x);
    add_gain_gradient(dense.final_norm, config.hidden_size, a.dh.row_range(0, a.y.rows),
                      a.layers.back().out);
    backend.rms_norm_backward(a.d_top_x, a.dh.row_range(0, a.y.rows), a.layers.back().out,
                              weights.final_norm, static_cast<float>(config.rms_norm_eps));
    const auto lowest_layer = static_cast<std::size_t>(lowest / stage_count);
    for (std::size_t layer = weights.layers.size(); layer-- > lowest_layer;) {
        const TensorView dx = is_last(layer) ? a.d_top_x : a.dx;
        // The last layer's results are where forward left them.
        if (recompute == Recompute::layer && !is_last(layer)) recompute_layer(layer, batch);
        if (recompute == Recompute::light) recompute_mlp_inputs(layer);
        backward_mlp(layer, dx);
        if (!passes_gradient(layer, Stage::gate_up)) return;
        backward_o(layer, batch);
        if (!passes_gradient(layer, Stage::o)) return;
        backward_attention(layer, batch);
    }
    if (dense.embedding == frozen) return;
    backend.embedding_backward(
        fp32_view(dense_gradient(dense.embedding), config.vocab_size, config.hidden_size), a.dx,
        batch.tokens);
}

/// dx: the gradient of the layer's output; becomes that of x_mid.
void Decoder::Impl::backward_mlp(std::size_t layer, TensorView dx) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    const RowSet& rows = rows_after_attention(layer);
    const bool down_passes = passes_gradient(layer, Stage::down);
    const TensorView d_act = down_passes ? activations.d_act.row_range(0, dx.rows) : TensorView{};
    if (down_passes) backend.linear_dx(d_act, dx, w.down.weight, false);
    add_weight_gradient(dense_layer(layer).down, dx, a.act);
    const TensorView gate = a.gate_up.columns(0, config.intermediate_size);
    const TensorView up = a.gate_up.columns(config.intermediate_size, config.intermediate_size);
    if (!down_passes) {
        if (!plan().reads_act(static_cast<std::int64_t>(layer))) backend.swiglu(a.act, gate, up);
        lora_backward(layer, {{Linear::down, dx}}, rows, {}, a.act);
        return;
    }
    // In place: gate_up is its gradient then.
    const std::span<const LoraLayer> down = lora_layers(layer, {{Linear::down, dx}});
    if (down.empty()) {
        backend.swiglu_backward(gate, up, d_act, gate, up);
    } else {
        backend.lora_swiglu_backward(gate, up, d_act, ds_of(down), down.front(), a.act, gate, up,
                                     Slots{rows.slot_begin}, dropout(rows));
    }
    const bool gate_up_passes = passes_gradient(layer, Stage::gate_up);
    const TensorView dh = gate_up_passes ? activations.dh.row_range(0, dx.rows) : TensorView{};
    if (gate_up_passes) backend.linear_dx(dh, a.gate_up, w.gate_up.weight, false);
    lora_backward(layer, {{Linear::gate, gate}, {Linear::up, up}}, rows, dh, a.h_mlp);
    add_weight_gradient(dense_layer(layer).gate_up, a.gate_up, a.h_mlp);
    if (!gate_up_passes) return;
    add_gain_gradient(dense_layer(layer).mlp_norm, config.hidden_size, dh, a.x_mid);
    backend.rms_norm_backward(dx, dh, a.x_mid, w.mlp_norm, static_cast<float>(config.rms_norm_eps));
}

/// From the gradient of x_mid to that of the attention's output, on all rows.
void Decoder::Impl::backward_o(std::size_t layer, const PackedBatch& batch) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    const bool last = is_last(layer);
    const TensorView dx = last ? activations.d_top_x : activations.dx;
    const bool passes = passes_gradient(layer, Stage::o);
    TensorView d_attention;
    if (passes) {
        d_attention = last ? activations.d_top_attention : activations.d_attention;
        backend.linear_dx(d_attention, dx, w.o.weight, false);
    }
    lora_backward(layer, {{Linear::o, dx}}, rows_after_attention(layer), d_attention, a.o_input);
    add_weight_gradient(dense_layer(layer).o, dx, a.o_input);
    if (!passes || !last) return;
    zero(backend, activations.d_attention);
    zero(backend, activations.dx);
    backend.scatter_add_rows(activations.d_attention, d_attention, batch.target_rows);
    backend.scatter_add_rows(activations.dx, dx, batch.target_rows);
}

/// activations.dx: the gradient of x_mid; becomes that of x.
void Decoder::Impl::backward_attention(std::size_t layer, const PackedBatch& batch) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    const std::int64_t q_size = config.q_size(), kv_size = config.kv_size();
    const TensorView& d_qkv = activations.d_qkv;
    const TensorView dq = d_qkv.columns(0, q_size);
    const TensorView dk = d_qkv.columns(q_size, kv_size);
    const TensorView dv = d_qkv.columns(q_size + kv_size, kv_size);
    const bool alike = turns_alike(batch);
    backend.attention_backward(dq, dk, dv, activations.d_attention, a.attention, a.lse,
                               a.qk.columns(0, q_size), a.qk.columns(q_size, kv_size),
                               a.qkv.columns(q_size + kv_size, kv_size), attention_shape(layer),
                               Sequences{batch.sequence_begin},
                               alike ? rotary(batch, 0, batch.rows(), inv_freq) : Rotary{});
    if (!alike) rotate(d_qkv.columns(0, q_size + kv_size), batch, Rotation::backward);
    if (config.qk_norm) {
        const auto eps = static_cast<float>(config.rms_norm_eps);
        const TensorView q = a.qkv.columns(0, q_size), k = a.qkv.columns(q_size, kv_size);
        add_gain_gradient(dense_layer(layer).q_norm, config.head_dim, dq, q);
        add_gain_gradient(dense_layer(layer).k_norm, config.head_dim, dk, k);
        backend.head_rms_norm_backward(dq, dq, q, config.heads, w.q_norm, eps);
        backend.head_rms_norm_backward(dk, dk, k, config.kv_heads, w.k_norm, eps);
    }
    if (recompute != Recompute::none) recompute_attention_input(layer);
    const bool passes = passes_gradient(layer, Stage::qkv);
    const TensorView dh = passes ? activations.dh : TensorView{};
    if (passes) backend.linear_dx(dh, d_qkv, w.qkv.weight, false);
    lora_backward(layer, {{Linear::q, dq}, {Linear::k, dk}, {Linear::v, dv}}, all_rows_, dh,
                  a.h_attention);
    add_weight_gradient(dense_layer(layer).qkv, d_qkv, a.h_attention);
    if (!passes) return;
    add_gain_gradient(dense_layer(layer).attention_norm, config.hidden_size, dh, a.x);
    backend.rms_norm_backward(activations.dx, dh, a.x, w.attention_norm,
                              static_cast<float>(config.rms_norm_eps));
}

void Decoder::Impl::lora_backward(std::size_t layer, std::initializer_list<Output> gradients,
                                  const RowSet& rows, TensorView dx, TensorView x) {
    const std::span<const LoraLayer> layers = lora_layers(layer, gradients);
    if (layers.empty()) return;
    backend.lora_backward(dx, ds_of(layers), layers, x, Slots{rows.slot_begin}, dropout(rows));
}

TensorView Decoder::Impl::ds_of(std::span<const LoraLayer> layers) const {
    std::int64_t columns = 0;
    for (const LoraLayer& layer : layers) columns += layer.s.cols;
    return dense_view(activations.ds.data, dtype, layers.front().s.rows, columns);
}

void Decoder::Impl::add_weight_gradient(const DenseLinear& where, TensorView dy, TensorView x) {
    if (where.weight == frozen && where.bias == frozen) return;
    const TensorView dw = where.weight == frozen
                              ? TensorView{}
                              : fp32_view(dense_gradient(where.weight), dy.cols, x.cols);
    backend.linear_dw(dw, dense_gradient(where.bias), dy, x);
}

void Decoder::Impl::add_gain_gradient(std::int64_t offset, std::int64_t size, TensorView dy,
                                      TensorView x) {
    if (offset == frozen) return;
    backend.rms_norm_dgain({dense_gradient(offset), static_cast<std::size_t>(size)}, dy, x,
                           static_cast<float>(config.rms_norm_eps));
}

TensorView Decoder::Impl::head_gradient() const {
    if (dense.head == frozen) return {};
    return fp32_view(dense_gradient(dense.head), config.vocab_size, config.hidden_size);
}

}  // namespace fedit
