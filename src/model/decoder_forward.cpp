// model/decoder_forward.cpp: the list of operations from tokens to the head's input.
#include <numeric>

#include "model/decoder_impl.h"

namespace fedit {

namespace {

/// Of a sequence of which the batch may hold a part; 0 if it holds nothing.
std::int64_t whole_length(const PackedBatch& batch, std::size_t sequence) {
    const std::int64_t begin = batch.sequence_begin[sequence];
    const std::int64_t end = batch.sequence_begin[sequence + 1];
    if (begin == end) return 0;
    return batch.sequence_length.empty() ? batch.positions[static_cast<std::size_t>(end - 1)] + 1
                                         : batch.sequence_length[sequence];
}

}  // namespace

void Decoder::Impl::forward(const PackedBatch& batch, std::span<const AdapterSlot> adapter_slots,
                            Pass pass, const CachedSequences* cached) {
    begin(batch, adapter_slots, pass);
    cached_ = cached;
    if (batch.target_rows.empty()) return;
    backend.embedding(activations.layers.front().x, weights.embedding, batch.tokens);
    const auto eps = static_cast<float>(config.rms_norm_eps);
    for (std::size_t layer = 0; layer < weights.layers.size(); ++layer) {
        const LayerActivations& a = activations.layers[layer];
        // The layer below left its MLP's output in x; its residual stream joins here.
        const TensorView residual = layer == 0 ? TensorView{} : activations.layers[layer - 1].x_mid;
        backend.rms_norm(a.h_attention, a.x, residual, weights.layers[layer].attention_norm, eps);
        forward_attention(layer, batch);
        forward_mlp(layer);
        forward_down(layer);
    }
    const LayerActivations& last = activations.layers.back();
    backend.rms_norm(activations.y, last.out, last.x_mid, weights.final_norm, eps);
}

void Decoder::Impl::forward_attention(std::size_t layer, const PackedBatch& batch) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    backend.linear(a.qkv, a.h_attention, w.qkv.weight, w.qkv.bias, false);
    forward_queries_and_keys(layer, batch);
    const std::int64_t q_size = config.q_size(), kv_size = config.kv_size();
    const TensorView q = a.qk.columns(0, q_size), k = a.qk.columns(q_size, kv_size);
    const TensorView v = a.qkv.columns(q_size + kv_size, kv_size);
    const AttentionKeys keys = attention_keys(k, v, layer, batch);
    backend.attention(a.attention, a.lse, q, keys.k, keys.v, attention_shape(layer),
                      keys.sequences);
    if (is_last(layer)) {  // from here on only the rows that predict a target matter
        backend.gather_rows(a.o_input, a.attention, batch.target_rows);
        backend.gather_rows(a.residual, a.x, batch.target_rows);
    }
}

void Decoder::Impl::forward_queries_and_keys(std::size_t layer, const PackedBatch& batch) {
    const LayerActivations& a = activations.layers[layer];
    const std::int64_t q_size = config.q_size(), kv_size = config.kv_size();
    const TensorView projected_q = a.qkv.columns(0, q_size);
    const TensorView projected_k = a.qkv.columns(q_size, kv_size);
    const TensorView v = a.qkv.columns(q_size + kv_size, kv_size);
    const bool turns_q = has_adapter(layer, Linear::q), turns_k = has_adapter(layer, Linear::k);
    if (config.qk_norm || !turns_alike(batch) || !(turns_q || turns_k)) {
        lora(layer, {{Linear::q, projected_q}, {Linear::k, projected_k}, {Linear::v, v}}, all_rows_,
             a.h_attention);
        if (config.qk_norm) norm_heads(layer);
        rotate(a.qk, batch, Rotation::forward);
        return;
    }
    const Rotary turn = rotary(batch, 0, batch.rows(), inv_freq);
    lora(layer,
         {{Linear::q, projected_q, config.heads},
          {Linear::k, projected_k, config.kv_heads},
          {Linear::v, v}},
         all_rows_, a.h_attention, turn);
    if (!turns_q) backend.rope(projected_q, config.heads, turn, false);
    if (!turns_k) backend.rope(projected_k, config.kv_heads, turn, false);
}

void Decoder::Impl::norm_heads(std::size_t layer) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    const std::int64_t q_size = config.q_size(), kv_size = config.kv_size();
    const auto eps = static_cast<float>(config.rms_norm_eps);
    backend.head_rms_norm(a.qk.columns(0, q_size), a.qkv.columns(0, q_size), config.heads, w.q_norm,
                          eps);
    backend.head_rms_norm(a.qk.columns(q_size, kv_size), a.qkv.columns(q_size, kv_size),
                          config.kv_heads, w.k_norm, eps);
}

AttentionKeys Decoder::Impl::attention_keys(TensorView k, TensorView v, std::size_t layer,
                                            const PackedBatch& batch) {
    if (cached_ == nullptr) return {k, v, {.begin = batch.sequence_begin}};
    const TensorView cache = cached_->cache.layer(layer);
    const TensorView cached_k = cache.columns(0, k.cols), cached_v = cache.columns(k.cols, v.cols);
    std::vector<std::int64_t> rows(static_cast<std::size_t>(batch.rows()));
    std::iota(rows.begin(), rows.end(), std::int64_t{0});
    for (std::size_t i = 0; i < cached_->end.size(); ++i) {
        const std::int64_t first = batch.sequence_begin[i];
        const std::int64_t count = batch.sequence_begin[i + 1] - first;
        const auto own = std::span(rows).subspan(static_cast<std::size_t>(first),
                                                 static_cast<std::size_t>(count));
        backend.gather_rows(cached_k.row_range(cached_->end[i] - count, count), k, own);
        backend.gather_rows(cached_v.row_range(cached_->end[i] - count, count), v, own);
    }
    return {cached_k,
            cached_v,
            {.begin = batch.sequence_begin, .kv_begin = cached_->begin, .kv_end = cached_->end}};
}

AttentionShape Decoder::Impl::attention_shape(std::size_t layer) const {
    return {.heads = config.heads,
            .kv_heads = config.kv_heads,
            .head_dim = config.head_dim,
            .window = config.window(static_cast<std::int64_t>(layer)),
            .products = weights.head.dtype};
}

Rotary Decoder::Impl::rotary(const PackedBatch& batch, std::int64_t begin, std::int64_t end,
                             std::span<const float> frequencies) const {
    const std::span<const std::int32_t> positions(batch.positions);
    return {
        positions.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
        frequencies, static_cast<float>(config.rope.attention_scale)};
}

bool Decoder::Impl::turns_slower(const PackedBatch& batch, std::size_t sequence) const {
    return config.rope.type == RopeType::dynamic &&
           whole_length(batch, sequence) > config.max_positions;
}

bool Decoder::Impl::turns_alike(const PackedBatch& batch) const {
    for (std::size_t s = 0; s + 1 < batch.sequence_begin.size(); ++s) {
        if (turns_slower(batch, s)) return false;
    }
    return true;
}

void Decoder::Impl::rotate(TensorView qk, const PackedBatch& batch, Rotation rotation) {
    const auto turn = [&](std::int64_t begin, std::int64_t end,
                          std::span<const float> frequencies) {
        backend.rope(qk.row_range(begin, end - begin), config.heads + config.kv_heads,
                     rotary(batch, begin, end, frequencies), rotation == Rotation::backward);
    };
    std::int64_t done = 0;
    for (std::size_t s = 0; s + 1 < batch.sequence_begin.size(); ++s) {
        if (!turns_slower(batch, s)) continue;
        const std::int64_t begin = batch.sequence_begin[s], end = batch.sequence_begin[s + 1];
        turn(done, begin, inv_freq);
        turn(begin, end, rope_inverse_frequencies(config, whole_length(batch, s)));
        done = end;
    }
    turn(done, batch.rows(), inv_freq);
}

void Decoder::Impl::forward_mlp(std::size_t layer) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    const RowSet& rows = rows_after_attention(layer);
    backend.linear(a.x_mid, a.o_input, w.o.weight, w.o.bias, false);
    lora(layer, {{Linear::o, a.x_mid}}, rows, a.o_input);
    backend.rms_norm(a.h_mlp, a.x_mid, a.residual, w.mlp_norm,
                     static_cast<float>(config.rms_norm_eps));
    backend.linear(a.gate_up, a.h_mlp, w.gate_up.weight, w.gate_up.bias, false);
    const TensorView gate = a.gate_up.columns(0, config.intermediate_size);
    const TensorView up = a.gate_up.columns(config.intermediate_size, config.intermediate_size);
    if (has_adapter(layer, Linear::gate) && has_adapter(layer, Linear::up)) {
        backend.lora_swiglu(a.act, lora_layers(layer, {{Linear::gate, gate}, {Linear::up, up}}),
                            a.h_mlp, Slots{rows.slot_begin}, dropout(rows));
        return;
    }
    lora(layer, {{Linear::gate, gate}, {Linear::up, up}}, rows, a.h_mlp);
    backend.swiglu(a.act, gate, up);
}

void Decoder::Impl::forward_down(std::size_t layer) {
    const LayerWeights& w = weights.layers[layer];
    const LayerActivations& a = activations.layers[layer];
    backend.linear(a.out, a.act, w.down.weight, w.down.bias, false);
    lora(layer, {{Linear::down, a.out}}, rows_after_attention(layer), a.act);
}

std::span<const LoraLayer> Decoder::Impl::lora_layers(std::size_t layer,
                                                      std::initializer_list<Output> outputs) {
    lora_layers_.clear();
    for (const auto& [linear, y, turned_heads] : outputs) {
        if (!has_adapter(layer, linear)) continue;
        const int module = adapters.module(static_cast<std::int64_t>(layer), linear);
        lora_layers_.push_back({.y = y,
                                .s = activations.layers[layer].s[static_cast<std::size_t>(linear)],
                                .adapters = factors(linear, module),
                                .module = static_cast<std::uint32_t>(module),
                                .turned_heads = turned_heads,
                                .products = weights.head.dtype});
    }
    return lora_layers_;
}

void Decoder::Impl::lora(std::size_t layer, std::initializer_list<Output> outputs,
                         const RowSet& rows, TensorView x, const Rotary& turn) {
    const std::span<const LoraLayer> layers = lora_layers(layer, outputs);
    if (!layers.empty()) backend.lora(layers, x, Slots{rows.slot_begin}, dropout(rows), turn);
}

std::span<const LoraSlot> Decoder::Impl::factors(Linear linear, int module) {
    const Module& spans = layout.modules[static_cast<std::size_t>(module)];
    const Span& a = spans.spans[0];
    const Span& b = spans.spans[1];
    std::vector<LoraSlot>& slots = factors_[static_cast<std::size_t>(linear)];
    slots.clear();
    for (const AdapterSlot& slot : slots_) {
        const bool train = pass_ == Pass::train;
        slots.push_back({.a = slot.x + a.offset,
                         .b = slot.x + b.offset,
                         .da = train ? slot.gradient + a.offset : nullptr,
                         .db = train ? slot.gradient + b.offset : nullptr,
                         .rank = a.rows,
                         .scale = static_cast<float>(spans.scale)});
    }
    return slots;
}

Dropout Decoder::Impl::dropout(const RowSet& rows) const {
    const double p = pass_ == Pass::train ? slots_.front().dropout : 0;
    return {.p = static_cast<float>(p), .slot_key = slot_keys_, .row_counter = rows.counter};
}

}  // namespace fedit
