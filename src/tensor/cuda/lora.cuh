// tensor/cuda/lora.cuh: which kernels compute adapters.
#pragma once

#include <algorithm>

#include "tensor/cuda/elementwise.cuh"
#include "tensor/cuda/lora_launches.cuh"
#include "tensor/cuda/lora_plain.cuh"
#include "tensor/cuda/lora_swiglu.cuh"

namespace fedit::cuda {

/// Layers that one launch takes.
inline constexpr std::size_t most_layers = 3;

/// Whether tensor cores can do it: bf16 in whole 16-byte vectors; s may lie anywhere.
inline bool fits_vectors(DeviceLayers layers, TensorView x) {
    return x.dtype == Dtype::bf16 && fits(x, full_width<Bf16>) &&
           std::ranges::all_of(layers,
                               [](const DeviceLayer& l) { return fits(l.y, full_width<Bf16>); });
}

inline std::int64_t largest_rank(DeviceLayers layers) {
    std::int64_t rank = 0;
    for (const DeviceLayer& layer : layers) rank = std::max(rank, layer.slots.largest_rank);
    return rank;
}

/// Calls body(Width<count>(), part, first column of the part's ds) for parts of at most most_layers
/// layers.
template <class Body>
void for_each_part(DeviceLayers layers, const Body& body) {
    std::int64_t column = 0;
    while (!layers.empty()) {
        const DeviceLayers part = layers.first(std::min(layers.size(), most_layers));
        if (part.size() == 1) body(Width<1>(), part, column);
        if (part.size() == 2) body(Width<2>(), part, column);
        if (part.size() == 3) body(Width<3>(), part, column);
        for (const DeviceLayer& layer : part) column += layer.s.cols;
        layers = layers.subspan(part.size());
    }
}

// ---- with fp32 arithmetic

/// s = factor drop(x) W^T.
template <LoraSide side, class T, class Launch>
void launch_plain_down(const Launch& launch, const LoraDown<T>& a, std::int64_t rows) {
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows), .threads = 32},
           plain_lora_down_kernel<side, T>, a);
}

/// y += factor W^T s.
template <LoraSide side, class T, class Launch>
void launch_plain_up(const Launch& launch, const LoraUp<T>& a, std::int64_t rows) {
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows),
                .threads = plain_lora_threads,
                .y = static_cast<int>(ceil_div(a.depth, 8 * plain_lora_threads))},
           plain_lora_up_kernel<side, T>, a);
}

/// da += s^T drop(x), or db += scale s^T x transposed.
template <LoraSide side, class T, class Launch>
void launch_plain_gradient(const Launch& launch, const LoraGradient<T>& a, std::int64_t rows) {
    const DeviceSlots& slots = a.shares.slots;
    const auto rank_tiles = static_cast<int>(ceil_div(slots.largest_rank, plain_lora_ranks));
    launch(
        Grid{.x = tile_numbers(rows, slots.count, gradient_chunk),
             .threads = plain_lora_threads,
             .y = static_cast<int>(ceil_div(a.shares.depth, 8 * plain_lora_threads)) * rank_tiles},
        plain_lora_gradient_kernel<side, T>, a, rank_tiles);
    launch_add_gradient<side>(launch, a.shares, a.dropout.factor);
}

template <class Launch>
void launch_plain_lora(const Launch& launch, const DeviceLayer& layer, TensorView x,
                       const DeviceDropout& dropout) {
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_plain_down<LoraSide::input>(
            launch,
            LoraDown<T>{rows<T>(layer.s), rows<T>(x), layer.slots, layer.module, dropout, x.cols},
            x.rows);
        launch_plain_up<LoraSide::output>(launch,
                                          LoraUp<T>{rows<T>(layer.y), rows<T>(layer.s), layer.slots,
                                                    layer.module, dropout, layer.y.cols},
                                          x.rows);
    });
}

template <class Launch>
void launch_plain_backward(const Launch& launch, TensorView dx, TensorView ds,
                           const DeviceLayer& layer, TensorView x, const DeviceDropout& dropout,
                           float* scratch) {
    const TensorView dy = layer.y, s = layer.s;
    const GradientShares da{scratch, layer.slots, x.cols}, db{scratch, layer.slots, dy.cols};
    const std::uint32_t module = layer.module;
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_plain_down<LoraSide::output>(
            launch, LoraDown<T>{rows<T>(ds), rows<T>(dy), layer.slots, module, dropout, dy.cols},
            x.rows);
        launch_plain_gradient<LoraSide::input>(
            launch, LoraGradient<T>{da, rows<T>(ds), rows<T>(x), module, dropout}, x.rows);
        launch_plain_gradient<LoraSide::output>(
            launch, LoraGradient<T>{db, rows<T>(s), rows<T>(dy), module, dropout}, x.rows);
        if (dx.data == nullptr) return;
        launch_plain_up<LoraSide::input>(
            launch, LoraUp<T>{rows<T>(dx), rows<T>(ds), layer.slots, module, dropout, x.cols},
            x.rows);
    });
}

// ---- the operations

/// `scratch`: lora_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora(const Launch& launch, DeviceLayers layers, TensorView x,
                 const DeviceDropout& dropout, const DeviceRotary& rotary, float* scratch) {
    if (x.rows == 0) return;
    const auto turn = [&](const DeviceLayer& layer) {
        if (layer.turned_heads == 0) return;
        launch_rope(launch, layer.y, layer.turned_heads, rotary, /*inverse=*/false);
    };
    const bool adds = largest_rank(layers) > 0;
    if (!adds || !fits_vectors(layers, x)) {
        for (const DeviceLayer& layer : layers) {
            if (adds) launch_plain_lora(launch, layer, x, dropout);
            turn(layer);
        }
        return;
    }
    for_each_part(layers, [&](auto count, DeviceLayers part, std::int64_t /*column*/) {
        launch_inner_products<count()>(launch, part, x, dropout, scratch);
        for (const DeviceLayer& layer : part) {
            if (turns_on_the_way(layer)) {
                launch_turned_outer_product(launch, layer, rotary);
            } else {
                launch_outer_product(launch, layer);
                turn(layer);
            }
        }
    });
}

/// `scratch`: lora_backward_scratch_bytes(...) bytes. The shares of db have been added when those
/// of da take their place.
template <class Launch>
void launch_lora_backward(const Launch& launch, TensorView dx, TensorView ds, DeviceLayers layers,
                          TensorView x, const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0 || largest_rank(layers) == 0) return;
    if (!fits_vectors(layers, x) || !fits(dx, full_width<Bf16>)) {
        for (const DeviceLayer& layer : layers) {
            launch_plain_backward(launch, dx, ds.columns(0, layer.s.cols), layer, x, dropout,
                                  scratch);
        }
        return;
    }
    for_each_part(layers, [&](auto count, DeviceLayers part, std::int64_t column) {
        TensorView part_ds = ds.columns(column, ds.cols - column);
        for (const DeviceLayer& layer : part) {
            launch_output_backward(launch, layer, ds.columns(column, layer.s.cols), scratch);
            column += layer.s.cols;
        }
        launch_input_backward<count()>(launch, dx, part_ds, part, x, dropout, scratch);
    });
}

// ---- in one pass with SwiGLU

/// lora() of gate and up, then swiglu(). `scratch`: lora_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora_swiglu(const Launch& launch, TensorView act, DeviceLayers gate_up, TensorView x,
                        const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0) return;
    const std::int64_t rank = largest_rank(gate_up);
    const DeviceLayer &gate = gate_up[0], &up = gate_up[1];
    if (rank == 0 || rank > most_joined_ranks || !fits_vectors(gate_up, x) ||
        !fits(act, full_width<Bf16>)) {
        launch_lora(launch, gate_up, x, dropout, {}, scratch);
        launch_swiglu(launch, act, gate.y, up.y);
        return;
    }
    launch_inner_products<2>(launch, gate_up, x, dropout, scratch);
    choose_joined_tiles(rank, [&](auto tiles) {
        constexpr int KT = tiles();
        launch(wide_grid(act, gate.slots, up_bytes<2, KT, LoraSide::output>),
               lora_swiglu_kernel<KT>,
               LoraSwiglu{.gate_layer = wide_layer(gate, gate.s, {}),
                          .up_layer = wide_layer(up, up.s, {}),
                          .gate = rows<Bf16>(gate.y),
                          .up = rows<Bf16>(up.y),
                          .act = rows<Bf16>(act),
                          .depth = act.cols});
    });
}

/// lora_backward() of `down`, whose input is act and whose dx is d_act, then swiglu_backward(). act
/// is scratch.
/// `scratch`: lora_backward_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora_swiglu_backward(const Launch& launch, TensorView dgate, TensorView dup,
                                 TensorView d_act, TensorView ds, const DeviceLayer& down,
                                 TensorView act, TensorView gate, TensorView up,
                                 const DeviceDropout& dropout, float* scratch) {
    if (act.rows == 0) return;
    const std::int64_t rank = down.slots.largest_rank;
    bool vectors = fits_vectors({&down, 1}, act);
    for (const TensorView& view : {d_act, gate, up}) {
        vectors = vectors && fits(view, full_width<Bf16>);
    }
    const bool in_place = dgate.data == gate.data && dgate.stride == gate.stride &&
                          dup.data == up.data && dup.stride == up.stride;
    if (rank == 0 || rank > most_joined_ranks || !vectors || !in_place) {
        launch_swiglu(launch, act, gate, up);
        launch_lora_backward(launch, d_act, ds, {&down, 1}, act, dropout, scratch);
        launch_swiglu_backward(launch, dgate, dup, d_act, gate, up);
        return;
    }
    launch_output_backward(launch, down, ds, scratch);
    const GradientShares da{scratch, down.slots, act.cols};
    choose_joined_tiles(rank, [&](auto tiles) {
        constexpr int KT = tiles();
        launch(wide_grid(act, down.slots, up_bytes<1, KT, LoraSide::input>),
               lora_swiglu_backward_kernel<KT>,
               LoraSwigluBackward{.layer = wide_layer(down, ds, da),
                                  .dy = rows<Bf16>(d_act),
                                  .gate = rows<Bf16>(gate),
                                  .up = rows<Bf16>(up),
                                  .dropout = dropout,
                                  .depth = act.cols});
    });
    launch_add_gradient<LoraSide::input>(launch, da, dropout.factor);
}

}  // namespace fedit::cuda
