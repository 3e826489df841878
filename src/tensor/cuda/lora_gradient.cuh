// tensor/cuda/lora_gradient.cuh: the gradients of an adapter, sums over rows: shares of chunks of
// rows on tensor cores, which read x once, and their sum in order. Chunks count from the member's
// first row, so its bits do not depend on who runs beside it.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

inline constexpr int gradient_threads = 128;
/// Columns of a warp and of a block: 8 a lane, of 8 lanes.
inline constexpr int gradient_warp_columns = 64,
                     gradient_columns = gradient_warp_columns * gradient_threads / 32;
/// Rows of s that lie in shared memory at once, transposed, and the distance of their ranks.
inline constexpr int gradient_rows = 128, gradient_stride = gradient_rows + 16;

/// Bytes of a block's shared memory for 16 MT ranks.
template <int MT>
inline constexpr std::size_t gradient_bytes = sizeof(Bf16) * 16 * MT* gradient_stride;

/// to[rank][row] = s[row][rank] for rows [first, end); zeros beyond, and beyond the adapter's rank.
template <int MT>
__device__ void load_transposed(Bf16* to, Rows<Bf16> s, std::int64_t first, std::int64_t end,
                                std::int64_t first_rank, std::int64_t rank) {
    for (int i = static_cast<int>(threadIdx.x); i < 16 * MT * gradient_rows;
         i += gradient_threads) {
        const int r = i % (16 * MT), t = i / (16 * MT);
        const bool exists = first + t < end && first_rank + r < rank;
        to[r * gradient_stride + t] = exists ? *s.at(first + t, first_rank + r) : Bf16{0};
    }
}

/// Column 2 i (half 0) or 2 i + 1 of word i of two rows, in one register as mma wants it.
__device__ inline std::uint32_t pair(std::uint32_t first, std::uint32_t second, int half) {
    return half == 0 ? (first & 0xffffU) | second << 16 : first >> 16 | (second & 0xffff0000U);
}

/// Grid: tile_numbers(rows, slots, gradient_chunk) x (ceil(depth / gradient_columns) * rank_tiles),
/// rank_tiles = ceil(largest rank / 16 MT).
///
/// Lane l takes columns 8 (l / 4) .. + 7 of its warp's 64 and rows 4 (l % 4) .. + 3 of each 16, the
/// j-th of 8 products the j-th of its columns; rows are numbered alike in both operands.
template <int MT, LoraSide side>
__global__ void __launch_bounds__(gradient_threads)
    lora_gradient_kernel(LoraGradient<Bf16> a, int rank_tiles) {
    const Tile tile = find_tile<gradient_chunk>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const std::int64_t rank = a.slots.adapters[tile.segment].rank;
    const std::int64_t first_rank = static_cast<std::int64_t>(blockIdx.y) % rank_tiles * 16 * MT;
    if (first_rank >= rank) return;
    auto* const s = reinterpret_cast<Bf16*>(dynamic_shared());
    const int lane = static_cast<int>(threadIdx.x) % 32, place = lane / 4, quarter = lane % 4;
    const std::int64_t first =
        static_cast<std::int64_t>(blockIdx.y) / rank_tiles * gradient_columns +
        threadIdx.x / 32 * gradient_warp_columns;
    const std::int64_t column = first + 8 * place;

    float sum[MT][8][4] = {};
#pragma unroll 1
    for (std::int64_t begin = tile.first; begin < tile.end; begin += gradient_rows) {
        __syncthreads();  // before the rows of s are written again
        load_transposed<MT>(s, a.s, begin, tile.end, first_rank, rank);
        __syncthreads();
#pragma unroll 1
        for (int t = 4 * quarter; t < gradient_rows && begin + t - 4 * quarter < tile.end;
             t += 16) {
            uint4 x[4];
            load_vectors<side>(x, a.x, begin + t, 1, tile.end, column, a.depth, a.dropout,
                               tile.segment);
            std::uint32_t left[MT][4];
#pragma unroll
            for (int m = 0; m < MT; ++m) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const auto* const rows = reinterpret_cast<const std::uint32_t*>(
                        s + (16 * m + place + 8 * i) * gradient_stride + t);
                    left[m][i] = rows[0];
                    left[m][2 + i] = rows[1];
                }
            }
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const auto word = [&](const uint4& v) {
                    return j < 2 ? v.x : j < 4 ? v.y : j < 6 ? v.z : v.w;
                };
                const std::uint32_t b0 = pair(word(x[0]), word(x[1]), j % 2);
                const std::uint32_t b1 = pair(word(x[2]), word(x[3]), j % 2);
#pragma unroll
                for (int m = 0; m < MT; ++m) mma(sum[m][j], left[m], b0, b1);
            }
        }
    }

    // mma's column 2 (l % 4) + c of product j is column 8 (2 (l % 4) + c) + j of the warp's 64.
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const std::int64_t r = first_rank + 16 * m + place + 8 * (i / 2);
            const std::int64_t to = first + 8 * (2 * quarter + i % 2);
            if (r >= rank || to >= a.depth) continue;
            float x[8];
#pragma unroll
            for (int j = 0; j < 8; ++j) x[j] = sum[m][j][i];
            store(a.chunk(blockIdx.x) + r * a.depth + to, x);
        }
    }
}

inline constexpr int add_threads = 256;

/// da += factor * the chunks' shares, or db += scale * them transposed. Grid: ceil(largest rank *
/// depth / add_threads) x slots.
template <LoraSide side, class T>
__global__ void lora_add_gradient_kernel(LoraGradient<T> a) {
    const std::int64_t i = std::int64_t{blockIdx.x} * add_threads + threadIdx.x;
    const std::int64_t number = blockIdx.y;
    const LoraSlot& slot = a.slots.adapters[number];
    const std::int64_t begin = a.slots.row_begin[number];
    const std::int64_t rows = a.slots.row_begin[number + 1] - begin;
    if (i >= slot.rank * a.depth || rows == 0) return;
    const std::int64_t first_chunk = begin / gradient_chunk + number;
    float sum = 0;
    for (std::int64_t c = 0; c * gradient_chunk < rows; ++c) {
        sum += a.chunk(first_chunk + c)[i];
    }
    if constexpr (side == LoraSide::input) {
        slot.da[i] += a.dropout.factor * sum;
    } else {
        slot.db[i % a.depth * slot.rank + i / a.depth] += slot.scale * sum;
    }
}

}  // namespace fedit::cuda
