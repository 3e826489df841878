// tensor/cuda/lora.cuh: which kernels compute adapters, and their launches.
#pragma once

#include "tensor/cuda/lora_down.cuh"
#include "tensor/cuda/lora_gradient.cuh"
#include "tensor/cuda/lora_plain.cuh"
#include "tensor/cuda/lora_up.cuh"

namespace fedit::cuda {

/// Whether tensor cores can do it: bf16 in whole 16-byte vectors; s is read element by element.
inline bool fits_vectors(TensorView x, TensorView y) {
    return x.dtype == Dtype::bf16 && fits(x, full_width<Bf16>) && fits(y, full_width<Bf16>);
}

/// From so many rows on, blocks of 64 rows fill a GPU, and read the weights half as often.
inline constexpr std::int64_t many_rows = 4096;

template <LoraSide side, int MT, int NT, class Launch>
void launch_down_tiles(const Launch& launch, const LoraDown<Bf16>& a, std::int64_t rows) {
    launch(Grid{.x = tile_numbers(rows, a.slots.count, 16 * MT),
                .threads = down_threads,
                .y = static_cast<int>(ceil_div(a.slots.largest_rank, 8 * NT)),
                .shared_bytes = down_bytes<MT, NT>},
           lora_down_kernel<MT, NT, side>, a);
}

/// s = factor drop(x) W^T.
template <LoraSide side, class T, class Launch>
void launch_lora_down(const Launch& launch, const LoraDown<T>& a, std::int64_t rows,
                      bool tensor_cores) {
    if constexpr (std::is_same_v<T, Bf16>) {
        if (tensor_cores) {
            if (a.slots.largest_rank > 32) return launch_down_tiles<side, 2, 8>(launch, a, rows);
            if (a.slots.largest_rank > 16) return launch_down_tiles<side, 2, 4>(launch, a, rows);
            if (rows < many_rows) return launch_down_tiles<side, 2, 2>(launch, a, rows);
            return launch_down_tiles<side, 4, 2>(launch, a, rows);
        }
    }
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows), .threads = 32},
           plain_lora_down_kernel<side, T>, a);
}

/// As many passes over y as the ranks need; each rounds y.
template <LoraSide side, int KT, class Launch>
void launch_up_tiles(const Launch& launch, const LoraUp<Bf16>& a, std::int64_t rows) {
    for (int rank = 0; rank < a.slots.largest_rank; rank += 16 * KT) {
        launch(Grid{.x = tile_numbers(rows, a.slots.count, up_rows),
                    .threads = up_threads,
                    .y = static_cast<int>(ceil_div(a.depth, up_columns))},
               lora_up_kernel<KT, side>, a, rank);
    }
}

/// y += factor W^T s.
template <LoraSide side, class T, class Launch>
void launch_lora_up(const Launch& launch, const LoraUp<T>& a, std::int64_t rows,
                    bool tensor_cores) {
    if constexpr (std::is_same_v<T, Bf16>) {
        if (tensor_cores) {
            if (a.slots.largest_rank > 64) return launch_up_tiles<side, 8>(launch, a, rows);
            if (a.slots.largest_rank > 32) return launch_up_tiles<side, 4>(launch, a, rows);
            if (a.slots.largest_rank > 16) return launch_up_tiles<side, 2>(launch, a, rows);
            return launch_up_tiles<side, 1>(launch, a, rows);
        }
    }
    launch(Grid{.x = tile_numbers(rows, a.slots.count, plain_lora_rows),
                .threads = plain_lora_threads,
                .y = static_cast<int>(ceil_div(a.depth, 8 * plain_lora_threads))},
           plain_lora_up_kernel<side, T>, a);
}

template <LoraSide side, int MT, class Launch>
void launch_gradient_tiles(const Launch& launch, const LoraGradient<Bf16>& a, std::int64_t rows) {
    const auto rank_tiles = static_cast<int>(ceil_div(a.slots.largest_rank, 16 * MT));
    launch(Grid{.x = tile_numbers(rows, a.slots.count, gradient_chunk),
                .threads = gradient_threads,
                .y = static_cast<int>(ceil_div(a.depth, gradient_columns)) * rank_tiles,
                .shared_bytes = gradient_bytes<MT>},
           lora_gradient_kernel<MT, side>, a, rank_tiles);
}

/// The shares of all chunks.
template <LoraSide side, class T, class Launch>
void launch_gradient_shares(const Launch& launch, const LoraGradient<T>& a, std::int64_t rows,
                            bool tensor_cores) {
    if constexpr (std::is_same_v<T, Bf16>) {
        if (tensor_cores) {
            if (a.slots.largest_rank > 32) return launch_gradient_tiles<side, 4>(launch, a, rows);
            if (a.slots.largest_rank > 16) return launch_gradient_tiles<side, 2>(launch, a, rows);
            return launch_gradient_tiles<side, 1>(launch, a, rows);
        }
    }
    const auto rank_tiles = static_cast<int>(ceil_div(a.slots.largest_rank, plain_lora_ranks));
    launch(Grid{.x = tile_numbers(rows, a.slots.count, gradient_chunk),
                .threads = plain_lora_threads,
                .y = static_cast<int>(ceil_div(a.depth, 8 * plain_lora_threads)) * rank_tiles},
           plain_lora_gradient_kernel<side, T>, a, rank_tiles);
}

/// da += s^T drop(x), or db += scale s^T x transposed.
template <LoraSide side, class T, class Launch>
void launch_lora_gradient(const Launch& launch, const LoraGradient<T>& a, std::int64_t rows,
                          bool tensor_cores) {
    launch_gradient_shares<side>(launch, a, rows, tensor_cores);
    launch(Grid{.x = ceil_div(a.slots.largest_rank * a.depth, add_threads),
                .threads = add_threads,
                .y = static_cast<int>(a.slots.count)},
           lora_add_gradient_kernel<side, T>, a);
}

template <class Launch>
void launch_lora(const Launch& launch, TensorView y, TensorView s, TensorView x,
                 const DeviceSlots& slots, const DeviceDropout& dropout) {
    if (x.rows == 0 || slots.largest_rank == 0) return;
    const bool tensor_cores = fits_vectors(x, y);
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_lora_down<LoraSide::input>(
            launch, LoraDown<T>{rows<T>(s), rows<T>(x), slots, dropout, x.cols}, x.rows,
            tensor_cores);
        launch_lora_up<LoraSide::output>(launch,
                                         LoraUp<T>{rows<T>(y), rows<T>(s), slots, dropout, y.cols},
                                         x.rows, tensor_cores);
    });
}

/// `scratch`: lora_scratch_bytes(...) bytes, used for da and then for db.
template <class Launch>
void launch_lora_backward(const Launch& launch, TensorView dx, TensorView ds, TensorView dy,
                          TensorView s, TensorView x, const DeviceSlots& slots,
                          const DeviceDropout& dropout, float* scratch) {
    if (x.rows == 0 || slots.largest_rank == 0) return;
    const bool tensor_cores = fits_vectors(x, dy) && fits(dx, full_width<Bf16>);
    choose({x}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch_lora_down<LoraSide::output>(
            launch, LoraDown<T>{rows<T>(ds), rows<T>(dy), slots, dropout, dy.cols}, x.rows,
            tensor_cores);
        launch_lora_gradient<LoraSide::input>(
            launch, LoraGradient<T>{scratch, rows<T>(ds), rows<T>(x), slots, dropout, x.cols},
            x.rows, tensor_cores);
        launch_lora_gradient<LoraSide::output>(
            launch, LoraGradient<T>{scratch, rows<T>(s), rows<T>(dy), slots, dropout, dy.cols},
            x.rows, tensor_cores);
        if (dx.data == nullptr) return;
        launch_lora_up<LoraSide::input>(launch,
                                        LoraUp<T>{rows<T>(dx), rows<T>(ds), slots, dropout, x.cols},
                                        x.rows, tensor_cores);
    });
}

}  // namespace fedit::cuda
