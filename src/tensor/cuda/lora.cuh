// tensor/cuda/lora.cuh: which kernels compute adapters, and their launches.
#pragma once

#include <algorithm>
#include <span>

#include "tensor/cuda/elementwise.cuh"
#include "tensor/cuda/lora_down.cuh"
#include "tensor/cuda/lora_gradient.cuh"
#include "tensor/cuda/lora_plain.cuh"
#include "tensor/cuda/lora_rope.cuh"
#include "tensor/cuda/lora_swiglu.cuh"
#include "tensor/cuda/lora_up.cuh"

namespace fedit::cuda {

using DeviceLayers = std::span<const DeviceLayer>;

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

// ---- on tensor cores

template <LoraSide side, int count, int RT, class Launch>
void launch_down_tiles(const Launch& launch, const LoraSlices<count>& a, std::int64_t rank) {
    const auto rank_tiles = static_cast<int>(ceil_div(rank, 16 * RT));
    const auto slices = static_cast<int>(ceil_div(a.depth, slice_columns));
    launch(Grid{.x = tile_numbers(a.sums.rows, a.layer[0].slots.count, gradient_chunk),
                .threads = down_threads,
                .y = slices * rank_tiles,
                .shared_bytes = down_bytes<count, RT, side>},
           lora_down_kernel<count, RT, side>, a, rank_tiles);
}

/// to = factor drop(x) W^T of each layer; on the output's side also the shares of db.
template <LoraSide side, int count, class Launch>
void launch_lora_slices(const Launch& launch, const LoraSlices<count>& a) {
    std::int64_t rank = 0;
    for (const LayerSlices& layer : a.layer) rank = std::max(rank, layer.slots.largest_rank);
    if constexpr (count == 1) {
        if (rank > 16) {
            launch_down_tiles<side, count, 2>(launch, a, rank);
        } else {
            launch_down_tiles<side, count, 1>(launch, a, rank);
        }
    } else {
        launch_down_tiles<side, count, 1>(launch, a, rank);
    }
    for (const LayerSlices& layer : a.layer) {
        launch(Grid{.x = tile_numbers(a.sums.rows, layer.slots.count, sum_rows),
                    .threads = sum_threads},
               lora_sum_slices_kernel<side>, a.sums, layer, a.depth, a.dropout.factor);
    }
}

/// s = drop(x) A^T of layers that share x.
template <int count, class Launch>
void launch_inner_products(const Launch& launch, DeviceLayers layers, TensorView x,
                           const DeviceDropout& dropout, float* scratch) {
    LoraSlices<count> a{.sums = {.data = scratch, .rows = x.rows, .columns = 0},
                        .layer = {},
                        .x = rows<Bf16>(x),
                        .dropout = dropout,
                        .depth = x.cols};
    for (int l = 0; l < count; ++l) {
        const DeviceLayer& layer = layers[static_cast<std::size_t>(l)];
        a.layer[l] = {.column = a.sums.columns,
                      .gradient = {},
                      .s = {},
                      .to = rows<Bf16>(layer.s),
                      .slots = layer.slots,
                      .module = layer.module};
        a.sums.columns += static_cast<int>(layer.slots.largest_rank);
    }
    launch_lora_slices<LoraSide::input>(launch, a);
}

inline LayerWide wide_layer(const DeviceLayer& layer, TensorView s, const GradientShares& shares) {
    return {.s = rows<Bf16>(s), .gradient = shares, .slots = layer.slots, .module = layer.module};
}

/// Of kernels whose blocks take a chunk of rows and `block_columns` of the columns.
inline Grid wide_grid(TensorView y, const DeviceSlots& slots, std::size_t shared_bytes,
                      int block_columns = up_columns) {
    return {.x = tile_numbers(y.rows, slots.count, gradient_chunk),
            .threads = up_threads,
            .y = static_cast<int>(ceil_div(y.cols, block_columns)),
            .shared_bytes = shared_bytes};
}

/// As many passes over y as the ranks need; each rounds y.
template <LoraSide side, int count, int KT, class Launch>
void launch_up_tiles(const Launch& launch, const LoraWide<count>& a, TensorView y,
                     std::int64_t largest) {
    for (int rank = 0; rank < largest; rank += 16 * KT) {
        launch(wide_grid(y, a.layer[0].slots, up_bytes<count, KT, side>),
               lora_up_kernel<count, KT, side>, a, rank);
    }
}

/// y += factor W^T s of all layers; on the input's side also the shares of da. A pass takes as many
/// ranks whoever else is in the call, so that a member's roundings are its own.
template <LoraSide side, int count, class Launch>
void launch_lora_wide(const Launch& launch, const LoraWide<count>& a, TensorView y) {
    std::int64_t largest = 0;
    for (const LayerWide& layer : a.layer) largest = std::max(largest, layer.slots.largest_rank);
    if constexpr (count == 1) {
        if (largest > 32) return launch_up_tiles<side, count, 4>(launch, a, y, largest);
        if (largest > 16) return launch_up_tiles<side, count, 2>(launch, a, y, largest);
    }
    launch_up_tiles<side, count, 1>(launch, a, y, largest);
}

/// y += scale s B^T.
template <class Launch>
void launch_outer_product(const Launch& launch, const DeviceLayer& layer) {
    launch_lora_wide<LoraSide::output>(launch,
                                       LoraWide<1>{.layer = {wide_layer(layer, layer.s, {})},
                                                   .y = rows<Bf16>(layer.y),
                                                   .x = {},
                                                   .adds = true,
                                                   .dropout = {},
                                                   .depth = layer.y.cols},
                                       layer.y);
}

/// Whether one pass can add to y and turn it: pairs of columns lie in one thread.
inline bool turns_on_the_way(const DeviceLayer& layer) {
    if (layer.turned_heads == 0 || layer.slots.largest_rank > 32) return false;
    const std::int64_t half = layer.y.cols / layer.turned_heads / 2;
    return half == 32 || half == 64;
}

/// y += scale s B^T, then turned.
template <class Launch>
void launch_turned_outer_product(const Launch& launch, const DeviceLayer& layer,
                                 const DeviceRotary& rotary) {
    const TensorView y = layer.y;
    const auto pass = [&](auto tiles, auto half) {
        constexpr int KT = tiles();
        launch(wide_grid(y, layer.slots, up_bytes<1, KT, LoraSide::output>, rope_columns),
               lora_rope_kernel<KT, half()>,
               LoraRope{.layer = wide_layer(layer, layer.s, {}),
                        .y = rows<Bf16>(y),
                        .rotary = rotary,
                        .depth = y.cols});
    };
    const bool small = y.cols / layer.turned_heads == 64;
    if (layer.slots.largest_rank > 16) {
        return small ? pass(Width<2>(), Width<32>()) : pass(Width<2>(), Width<64>());
    }
    return small ? pass(Width<1>(), Width<32>()) : pass(Width<1>(), Width<64>());
}

/// da += factor * the chunks' shares, or db += scale * them.
template <LoraSide side, class Launch>
void launch_add_gradient(const Launch& launch, const GradientShares& a, float factor) {
    launch(Grid{.x = ceil_div(a.slots.largest_rank * a.depth, add_threads),
                .threads = add_threads,
                .y = static_cast<int>(a.slots.count)},
           lora_add_gradient_kernel<side>, a, factor);
}

/// ds = scale dy B; db += scale dy^T s.
template <class Launch>
void launch_output_backward(const Launch& launch, const DeviceLayer& layer, TensorView ds,
                            float* scratch) {
    const TensorView dy = layer.y;
    const std::int64_t slices = lora_slice_floats(dy.rows, dy.cols, layer.slots.largest_rank);
    const GradientShares db{scratch + slices, layer.slots, dy.cols};
    const LayerSlices part{.column = 0,
                           .gradient = db,
                           .s = rows<Bf16>(layer.s),
                           .to = rows<Bf16>(ds),
                           .slots = layer.slots,
                           .module = layer.module};
    launch_lora_slices<LoraSide::output>(
        launch,
        LoraSlices<1>{.sums = {scratch, dy.rows, static_cast<int>(layer.slots.largest_rank)},
                      .layer = {part},
                      .x = rows<Bf16>(dy),
                      .dropout = {},
                      .depth = dy.cols});
    launch_add_gradient<LoraSide::output>(launch, db, 1);
}

/// da += ds^T drop(x), dx += drop'(ds A) of layers that share x.
template <int count, class Launch>
void launch_input_backward(const Launch& launch, TensorView dx, TensorView ds, DeviceLayers layers,
                           TensorView x, const DeviceDropout& dropout, float* shares) {
    const bool adds = dx.data != nullptr;
    LoraWide<count> a{.layer = {},
                      .y = rows<Bf16>(adds ? dx : x),
                      .x = rows<Bf16>(x),
                      .adds = adds,
                      .dropout = dropout,
                      .depth = x.cols};
    std::int64_t column = 0;
    for (int l = 0; l < count; ++l) {
        const DeviceLayer& layer = layers[static_cast<std::size_t>(l)];
        a.layer[l] =
            wide_layer(layer, ds.columns(column, layer.s.cols), {shares, layer.slots, x.cols});
        column += layer.s.cols;
        shares += lora_share_floats(x.rows, x.cols, layer.slots);
    }
    launch_lora_wide<LoraSide::input>(launch, a, x);
    for (const LayerWide& layer : a.layer) {
        launch_add_gradient<LoraSide::input>(launch, layer.gradient, dropout.factor);
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

/// Ranks that the passes with SwiGLU take.
inline constexpr std::int64_t most_swiglu_ranks = 32;

/// lora() of gate and up, then swiglu(). `scratch`: lora_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora_swiglu(const Launch& launch, TensorView act, DeviceLayers gate_up, TensorView x,
                        const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0) return;
    const std::int64_t rank = largest_rank(gate_up);
    const DeviceLayer &gate = gate_up[0], &up = gate_up[1];
    if (rank == 0 || rank > most_swiglu_ranks || !fits_vectors(gate_up, x) ||
        !fits(act, full_width<Bf16>)) {
        launch_lora(launch, gate_up, x, dropout, {}, scratch);
        launch_swiglu(launch, act, gate.y, up.y);
        return;
    }
    launch_inner_products<2>(launch, gate_up, x, dropout, scratch);
    const auto pass = [&](auto tiles) {
        constexpr int KT = tiles();
        launch(wide_grid(act, gate.slots, up_bytes<2, KT, LoraSide::output>),
               lora_swiglu_kernel<KT>,
               LoraSwiglu{.gate_layer = wide_layer(gate, gate.s, {}),
                          .up_layer = wide_layer(up, up.s, {}),
                          .gate = rows<Bf16>(gate.y),
                          .up = rows<Bf16>(up.y),
                          .act = rows<Bf16>(act),
                          .depth = act.cols});
    };
    if (rank > 16) return pass(Width<2>());
    pass(Width<1>());
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
    if (rank == 0 || rank > most_swiglu_ranks || !vectors || !in_place) {
        launch_swiglu(launch, act, gate, up);
        launch_lora_backward(launch, d_act, ds, {&down, 1}, act, dropout, scratch);
        launch_swiglu_backward(launch, dgate, dup, d_act, gate, up);
        return;
    }
    launch_output_backward(launch, down, ds, scratch);
    const GradientShares da{scratch, down.slots, act.cols};
    const auto pass = [&](auto tiles) {
        constexpr int KT = tiles();
        launch(wide_grid(act, down.slots, up_bytes<1, KT, LoraSide::input>),
               lora_swiglu_backward_kernel<KT>,
               LoraSwigluBackward{.layer = wide_layer(down, ds, da),
                                  .dy = rows<Bf16>(d_act),
                                  .gate = rows<Bf16>(gate),
                                  .up = rows<Bf16>(up),
                                  .dropout = dropout,
                                  .depth = act.cols});
    };
    if (rank > 16) {
        pass(Width<2>());
    } else {
        pass(Width<1>());
    }
    launch_add_gradient<LoraSide::input>(launch, da, dropout.factor);
}

}  // namespace fedit::cuda
