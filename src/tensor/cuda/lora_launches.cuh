// tensor/cuda/lora_launches.cuh: launches of the kernels of adapters on tensor cores.
#pragma once

#include <algorithm>
#include <span>

#include "tensor/cuda/lora_down.cuh"
#include "tensor/cuda/lora_gradient.cuh"
#include "tensor/cuda/lora_rope.cuh"
#include "tensor/cuda/lora_up.cuh"

namespace fedit::cuda {

using DeviceLayers = std::span<const DeviceLayer>;

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
    constexpr int most_tiles = count == 1 ? 2 : 1;
    if (rank > 16) {
        launch_down_tiles<side, count, most_tiles>(launch, a, rank);
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

/// Ranks that a pass takes which joins the wide product to what stands behind it.
inline constexpr std::int64_t most_joined_ranks = 32;

/// Calls body(Width<KT>()) for the tiles of 16 ranks that such a pass needs.
template <class Body>
void choose_joined_tiles(std::int64_t rank, const Body& body) {
    if (rank > 16) {
        body(Width<2>());
    } else {
        body(Width<1>());
    }
}

/// Whether one pass can add to y and turn it: pairs of columns lie in one thread.
inline bool turns_on_the_way(const DeviceLayer& layer) {
    if (layer.turned_heads == 0 || layer.slots.largest_rank > most_joined_ranks) return false;
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
    choose_joined_tiles(layer.slots.largest_rank, [&](auto tiles) {
        if (y.cols / layer.turned_heads == 64) return pass(tiles, Width<32>());
        pass(tiles, Width<64>());
    });
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

}  // namespace fedit::cuda
