// model/decoder_recompute.cpp: what a training pass did not keep, computed again for its backward
// by the operations that forward used, so with the same bits.
#include "model/decoder_impl.h"

namespace fedit {

void Decoder::Impl::normalise_stream(std::size_t layer) {
    const LayerActivations& a = activations.layers[layer];
    backend.rms_norm(a.h_attention, a.x, {}, weights.layers[layer].attention_norm,
                     static_cast<float>(config.rms_norm_eps));
}

void Decoder::Impl::recompute_layer(std::size_t layer, const PackedBatch& batch) {
    normalise_stream(layer);
    forward_attention(layer, batch);
    forward_mlp(layer);
    // Of the down adapter only its inner product is wanted; dh is free here and takes the rest.
    const LayerActivations& a = activations.layers[layer];
    lora(layer, {{Linear::down, activations.dh}}, rows_after_attention(layer), a.act);
}

void Decoder::Impl::recompute_mlp_inputs(std::size_t layer) {
    const LayerActivations& a = activations.layers[layer];
    const std::int64_t width = config.intermediate_size;
    const auto index = static_cast<std::int64_t>(layer);
    if (plan().reads_input_of(index, {Linear::gate, Linear::up})) {
        backend.rms_norm(a.h_mlp, a.x_mid, {}, weights.layers[layer].mlp_norm,
                         static_cast<float>(config.rms_norm_eps));
    }
    if (plan().reads_act(index)) {
        backend.swiglu(a.act, a.gate_up.columns(0, width), a.gate_up.columns(width, width));
    }
}

void Decoder::Impl::recompute_attention_input(std::size_t layer) {
    const auto index = static_cast<std::int64_t>(layer);
    if (plan().reads_input_of(index, {Linear::q, Linear::k, Linear::v})) normalise_stream(layer);
}

}  // namespace fedit
