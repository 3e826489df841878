// tensor/cuda/lora_swiglu.cuh: the wide products of adapters beside SwiGLU, in one pass with it:
// gate and up take theirs on the way to silu(gate) up, and the gradient of that takes the one of
// the layer above on the way to those of gate and up. They are read once and written once.
#pragma once

#include "tensor/cuda/lora_up.cuh"
#include "tensor/cuda/swiglu.cuh"

namespace fedit::cuda {

/// silu(gate) up of a vector of bf16.
__device__ inline uint4 gated(const uint4& gate, const uint4& up) {
    std::uint32_t out[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float g0 = low_half(word(gate, i)), g1 = high_half(word(gate, i));
        out[i] = pack(gated(g0, low_half(word(up, i)), sigmoid<Bf16>(g0)),
                      gated(g1, high_half(word(up, i)), sigmoid<Bf16>(g1)));
    }
    return {out[0], out[1], out[2], out[3]};
}

/// dgate and dup of a vector of bf16.
__device__ inline void gated_backward(uint4& dgate, uint4& dup, const uint4& dy, const uint4& gate,
                                      const uint4& up) {
    std::uint32_t to_gate[4], to_up[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float g0 = low_half(word(gate, i)), g1 = high_half(word(gate, i));
        const GateAndUp low =
            gated_backward(low_half(word(dy, i)), g0, low_half(word(up, i)), sigmoid<Bf16>(g0));
        const GateAndUp high =
            gated_backward(high_half(word(dy, i)), g1, high_half(word(up, i)), sigmoid<Bf16>(g1));
        to_gate[i] = pack(low.gate, high.gate);
        to_up[i] = pack(low.up, high.up);
    }
    dgate = {to_gate[0], to_gate[1], to_gate[2], to_gate[3]};
    dup = {to_up[0], to_up[1], to_up[2], to_up[3]};
}

/// gate and up += their layers' products; act = silu(gate) up.
struct LoraSwiglu {
    LayerWide gate_layer, up_layer;
    Rows<Bf16> gate, up, act;
    std::int64_t depth;
};

/// dy += the layer's product, in registers; gate and up become their gradients. Also the shares of
/// da, of the layer's input silu(gate) up, which is computed again.
struct LoraSwigluBackward {
    LayerWide layer;
    Rows<Bf16> dy, gate, up;
    DeviceDropout dropout;
    std::int64_t depth;
};

/// Of the largest rank that one pass takes.
template <int KT>
inline constexpr int swiglu_blocks = KT == 1 ? 4 : 3;
template <int KT>
inline constexpr int swiglu_backward_blocks = KT == 1 ? 3 : 2;

/// All of it, for ranks up to 16 KT. Grid as lora_up_kernel's.
template <int KT>
__global__ void __launch_bounds__(up_threads, swiglu_blocks<KT>) lora_swiglu_kernel(LoraSwiglu a) {
    constexpr int narrow = narrow_size<16 * KT>;
    const DeviceSlots& slots = a.gate_layer.slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty()) return;
    const UpPlace place = up_place();
    const std::int64_t column = place.column;

    LaneVectors<1> gates(a.gate, tile, column, a.depth), ups(a.up, tile, column, a.depth),
        acts(a.act, tile, column, a.depth);
    uint4 gate[1][2], up[1][2];
    gates.load(gate);
    ups.load(up);
    auto* const gate_s = reinterpret_cast<Bf16*>(dynamic_shared());
    Bf16* const up_s = gate_s + narrow;
    const LoraSlot& gate_slot = slots.adapters[tile.segment];
    const LoraSlot& up_slot = a.up_layer.slots.adapters[tile.segment];
    std::uint32_t gate_w[KT][4][2], up_w[KT][4][2];
    load_right(gate_w, factor_of<LoraSide::output>(gate_slot, a.depth), place.rank,
               place.weight_column);
    load_right(up_w, factor_of<LoraSide::output>(up_slot, a.depth), place.rank,
               place.weight_column);
    load_narrow<16 * KT>(gate_s, a.gate_layer.s, tile, 0, gate_slot.rank);
    load_narrow<16 * KT>(up_s, a.up_layer.s, tile, 0, up_slot.rank);
    const float gate_scale = gate_slot.scale, up_scale = up_slot.scale;
    __syncthreads();

    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        float gate_sum[4][4] = {}, up_sum[4][4] = {};
        wide_product<KT>(gate_sum, gate_s, t, gate_w);
        wide_product<KT>(up_sum, up_s, t, up_w);
        uint4 new_gate[2], new_up[2], act[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            new_gate[r] = added(gate[0][r], gate_sum, r, gate_scale);
            new_up[r] = added(up[0][r], up_sum, r, up_scale);
            act[r] = gated(new_gate[r], new_up[r]);
        }
        // The next rows are on their way while these are written.
        const LaneVectors<1> to_gates = gates, to_ups = ups;
        gates.advance();
        ups.advance();
        gates.load(gate);
        ups.load(up);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            to_gates.store(new_gate[r], r);
            to_ups.store(new_up[r], r);
            acts.store(act[r], r);
        }
        acts.advance();
    }
}

/// All of it, for ranks up to 16 KT. Grid as lora_up_kernel's.
template <int KT>
__global__ void __launch_bounds__(up_threads, swiglu_backward_blocks<KT>)
    lora_swiglu_backward_kernel(LoraSwigluBackward a) {
    const DeviceSlots& slots = a.layer.slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty()) return;
    const UpPlace place = up_place();
    const std::int64_t column = place.column;

    LaneVectors<1> gates(a.gate, tile, column, a.depth), ups(a.up, tile, column, a.depth),
        dys(a.dy, tile, column, a.depth);
    uint4 gate[1][2], up[1][2], dy[1][2];
    gates.load(gate);
    ups.load(up);
    dys.load(dy);
    auto* const counters = reinterpret_cast<std::int64_t*>(dynamic_shared());
    auto* const ds = reinterpret_cast<Bf16*>(dynamic_shared() + counter_bytes);
    const LoraSlot& slot = slots.adapters[tile.segment];
    std::uint32_t w[KT][4][2];
    load_right(w, factor_of<LoraSide::input>(slot, a.depth), place.rank, place.weight_column);
    load_narrow<16 * KT>(ds, a.layer.s, tile, 0, slot.rank);
    if (a.dropout.threshold > 0) load_counters(counters, a.dropout, tile);
    __syncthreads();
    const TileDropout dropout(a.dropout, tile.segment, counters);

    float da[KT][4][4] = {};
    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        uint4 mask[2], act[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            mask[r] = dropout.mask(a.layer.module, t + place.row + 8 * r, column);
            act[r] = gated(gate[0][r], up[0][r]);
        }
        float sum[4][4];
        add_layer<KT>(da, sum, act, mask, ds, t, w, /*adds=*/true, /*first=*/true);
        uint4 dgate[2], dup[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const uint4 slope = added(dy[0][r], sum, r, a.dropout.factor);
            gated_backward(dgate[r], dup[r], slope, gate[0][r], up[0][r]);
        }
        // The next rows are on their way while these are written.
        const LaneVectors<1> to_gates = gates, to_ups = ups;
        gates.advance();
        ups.advance();
        dys.advance();
        gates.load(gate);
        ups.load(up);
        dys.load(dy);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            to_gates.store(dgate[r], r);
            to_ups.store(dup[r], r);
        }
    }
    store_gradient<LoraSide::input>(a.layer.gradient.chunk(blockIdx.x), da, 0, slot.rank, column,
                                    a.depth);
}

}  // namespace fedit::cuda
