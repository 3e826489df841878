// tensor/cuda/lora.cuh: which kernels compute adapters, and their launches.
#pragma once

#include "tensor/cuda/lora_down.cuh"
#include "tensor/cuda/lora_gradient.cuh"
#include "tensor/cuda/lora_plain.cuh"
#include "tensor/cuda/lora_up.cuh"

namespace fedit::cuda {

/// Whether tensor cores can do it: bf16 in whole 16-byte vectors; s may lie anywhere.
inline bool fits_vectors(TensorView x, TensorView y) {
    return x.dtype == Dtype::bf16 && fits(x, full_width<Bf16>) && fits(y, full_width<Bf16>);
}

inline int slices_of(std::int64_t depth) {
    return static_cast<int>(ceil_div(depth, slice_columns));
}

template <LoraSide side, int RT, class Launch>
void launch_down_tiles(const Launch& launch, const LoraSlices& a) {
    const auto rank_tiles = static_cast<int>(ceil_div(a.slots.largest_rank, 16 * RT));
    launch(Grid{.x = tile_numbers(a.rows, a.slots.count, gradient_chunk),
                .threads = down_threads,
                .y = slices_of(a.depth) * rank_tiles,
                .shared_bytes = down_bytes<RT, side>},
           lora_down_kernel<RT, side>, a, rank_tiles);
}

/// to = factor drop(x) W^T; on the output's side also the shares of db.
template <LoraSide side, class Launch>
void launch_lora_slices(const Launch& launch, const LoraSlices& a, Rows<Bf16> to) {
    if (a.slots.largest_rank > 16) {
        launch_down_tiles<side, 2>(launch, a);
    } else {
        launch_down_tiles<side, 1>(launch, a);
    }
    launch(Grid{.x = tile_numbers(a.rows, a.slots.count, sum_rows), .threads = sum_threads},
           lora_sum_slices_kernel<side>, a, to);
}

/// As many passes over y as the ranks need; each rounds y.
template <LoraSide side, int KT, class Launch>
void launch_up_tiles(const Launch& launch, const LoraWide& a, std::int64_t rows) {
    for (int rank = 0; rank < a.slots.largest_rank; rank += 16 * KT) {
        launch(Grid{.x = tile_numbers(rows, a.slots.count, gradient_chunk),
                    .threads = up_threads,
                    .y = static_cast<int>(ceil_div(a.depth, up_columns)),
                    .shared_bytes = up_bytes<KT, side>},
               lora_up_kernel<KT, side>, a, rank);
    }
}

/// y += factor W^T s; on the input's side also the shares of da. A pass takes as many ranks
/// whoever else is in the call, so that a member's roundings are its own.
template <LoraSide side, class Launch>
void launch_lora_wide(const Launch& launch, const LoraWide& a, std::int64_t rows) {
    if (a.slots.largest_rank > 32) return launch_up_tiles<side, 4>(launch, a, rows);
    if (a.slots.largest_rank > 16) return launch_up_tiles<side, 2>(launch, a, rows);
    launch_up_tiles<side, 1>(launch, a, rows);
}

/// s = factor drop(x) W^T with fp32 arithmetic.
template <LoraSide side, class T, class Launch>
void launch_plain_down(const Launch& launch, const LoraDown<T>& a, std::int64_t rows) {
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows), .threads = 32},
           plain_lora_down_kernel<side, T>, a);
}

/// y += factor W^T s with fp32 arithmetic.
template <LoraSide side, class T, class Launch>
void launch_plain_up(const Launch& launch, const LoraUp<T>& a, std::int64_t rows) {
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows),
                .threads = plain_lora_threads,
                .y = static_cast<int>(ceil_div(a.depth, 8 * plain_lora_threads))},
           plain_lora_up_kernel<side, T>, a);
}

/// da += factor * the chunks' shares, or db += scale * them.
template <LoraSide side, class Launch>
void launch_add_gradient(const Launch& launch, const GradientShares& a, float factor) {
    launch(Grid{.x = ceil_div(a.slots.largest_rank * a.depth, add_threads),
                .threads = add_threads,
                .y = static_cast<int>(a.slots.count)},
           lora_add_gradient_kernel<side>, a, factor);
}

/// da += s^T drop(x), or db += scale s^T x transposed, with fp32 arithmetic.
template <LoraSide side, class T, class Launch>
void launch_plain_gradient(const Launch& launch, const LoraGradient<T>& a, std::int64_t rows) {
    const auto rank_tiles = static_cast<int>(ceil_div(a.slots.largest_rank, plain_lora_ranks));
    launch(Grid{.x = tile_numbers(rows, a.slots.count, gradient_chunk),
                .threads = plain_lora_threads,
                .y = static_cast<int>(ceil_div(a.depth, 8 * plain_lora_threads)) * rank_tiles},
           plain_lora_gradient_kernel<side, T>, a, rank_tiles);
    launch_add_gradient<side>(launch, a.shares, a.dropout.factor);
}

/// `scratch`: lora_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora(const Launch& launch, TensorView y, TensorView s, TensorView x,
                 const DeviceSlots& slots, const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0 || slots.largest_rank == 0) return;
    if (fits_vectors(x, y)) {
        launch_lora_slices<LoraSide::input>(launch,
                                            {.sums = scratch,
                                             .gradient = {},
                                             .x = rows<Bf16>(x),
                                             .s = {},
                                             .slots = slots,
                                             .dropout = dropout,
                                             .depth = x.cols,
                                             .rows = x.rows},
                                            rows<Bf16>(s));
        launch_lora_wide<LoraSide::output>(launch,
                                           {.y = rows<Bf16>(y),
                                            .s = rows<Bf16>(s),
                                            .x = {},
                                            .adds = true,
                                            .gradient = {},
                                            .slots = slots,
                                            .dropout = dropout,
                                            .depth = y.cols},
                                           x.rows);
        return;
    }
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_plain_down<LoraSide::input>(
            launch, LoraDown<T>{rows<T>(s), rows<T>(x), slots, dropout, x.cols}, x.rows);
        launch_plain_up<LoraSide::output>(
            launch, LoraUp<T>{rows<T>(y), rows<T>(s), slots, dropout, y.cols}, x.rows);
    });
}

/// On tensor cores. The shares of db have been added when those of da take their place.
template <class Launch>
void launch_tiled_backward(const Launch& launch, TensorView dx, TensorView ds, TensorView dy,
                           TensorView s, TensorView x, const DeviceSlots& slots,
                           const DeviceDropout& dropout, float* scratch) {
    float* const shares = scratch + lora_slice_floats(x.rows, dy.cols, slots.largest_rank);
    const GradientShares db{shares, slots, dy.cols}, da{shares, slots, x.cols};
    launch_lora_slices<LoraSide::output>(launch,
                                         {.sums = scratch,
                                          .gradient = db,
                                          .x = rows<Bf16>(dy),
                                          .s = rows<Bf16>(s),
                                          .slots = slots,
                                          .dropout = dropout,
                                          .depth = dy.cols,
                                          .rows = x.rows},
                                         rows<Bf16>(ds));
    launch_add_gradient<LoraSide::output>(launch, db, dropout.factor);
    const bool adds = dx.data != nullptr;
    launch_lora_wide<LoraSide::input>(launch,
                                      {.y = rows<Bf16>(adds ? dx : x),
                                       .s = rows<Bf16>(ds),
                                       .x = rows<Bf16>(x),
                                       .adds = adds,
                                       .gradient = da,
                                       .slots = slots,
                                       .dropout = dropout,
                                       .depth = x.cols},
                                      x.rows);
    launch_add_gradient<LoraSide::input>(launch, da, dropout.factor);
}

/// `scratch`: lora_backward_scratch_bytes(...) bytes.
template <class Launch>
void launch_lora_backward(const Launch& launch, TensorView dx, TensorView ds, TensorView dy,
                          TensorView s, TensorView x, const DeviceSlots& slots,
                          const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0 || slots.largest_rank == 0) return;
    if (fits_vectors(x, dy) && fits(dx, full_width<Bf16>)) {
        launch_tiled_backward(launch, dx, ds, dy, s, x, slots, dropout, scratch);
        return;
    }
    const GradientShares da{scratch, slots, x.cols}, db{scratch, slots, dy.cols};
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_plain_down<LoraSide::output>(
            launch, LoraDown<T>{rows<T>(ds), rows<T>(dy), slots, dropout, dy.cols}, x.rows);
        launch_plain_gradient<LoraSide::input>(
            launch, LoraGradient<T>{da, rows<T>(ds), rows<T>(x), slots, dropout, x.cols}, x.rows);
        launch_plain_gradient<LoraSide::output>(
            launch, LoraGradient<T>{db, rows<T>(s), rows<T>(dy), slots, dropout, dy.cols}, x.rows);
        if (dx.data == nullptr) return;
        launch_plain_up<LoraSide::input>(
            launch, LoraUp<T>{rows<T>(dx), rows<T>(ds), slots, dropout, x.cols}, x.rows);
    });
}

}  // namespace fedit::cuda
