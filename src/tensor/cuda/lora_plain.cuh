// tensor/cuda/lora_plain.cuh: the products of adapters with fp32 arithmetic, an element at a time:
// for fp32 activations, and for rows or ranks that the kernels on tensor cores do not take. A
// thread works on eight neighbouring columns, whose mask is one Philox block.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

inline constexpr int plain_lora_threads = 128;
/// Rows that a thread takes together, and ranks: so often is a weight or a row used when read.
inline constexpr int plain_lora_rows = 4, plain_lora_ranks = 8;

/// Columns [column, column + 8) of a row, dropped where asked; zeros beyond.
template <LoraSide side, class T>
__device__ void load_dropped(float (&x)[8], const T* row, std::int64_t column, std::int64_t depth,
                             const DeviceDropout& dropout, std::uint32_t module, std::int64_t slot,
                             std::int64_t number) {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = column + i < depth ? to_float(row[column + i]) : 0.0F;
    if (side == LoraSide::input && dropout.threshold > 0) {
        drop(x, keep_mask(dropout_row(dropout, module, slot, number), column / 8));
    }
}

/// A warp makes all ranks of its rows. Grid: tile_numbers(rows, slots, 4), a warp a block.
template <LoraSide side, class T>
__global__ void plain_lora_down_kernel(LoraDown<T> a) {
    const Tile tile = find_tile<plain_lora_rows>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const Factor factor = factor_of<side>(slot, a.depth);
    const float scale = side == LoraSide::input ? a.dropout.factor : slot.scale;
    const int lane = static_cast<int>(threadIdx.x);
    for (std::int64_t first = 0; first < factor.rank; first += plain_lora_ranks) {
        float sum[plain_lora_rows][plain_lora_ranks] = {};
        for (std::int64_t j = 8 * lane; j < a.depth; j += 8 * 32) {
            float x[plain_lora_rows][8];
#pragma unroll
            for (int t = 0; t < plain_lora_rows; ++t) {
                const std::int64_t row = tile.first + (tile.first + t < tile.end ? t : 0);
                load_dropped<side>(x[t], a.x.at(row, 0), j, a.depth, a.dropout, a.module,
                                   tile.segment, row);
            }
#pragma unroll
            for (int r = 0; r < plain_lora_ranks; ++r) {
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    const bool exists = first + r < factor.rank && j + i < a.depth;
                    const float w = exists ? factor.at(first + r, j + i) : 0.0F;
#pragma unroll
                    for (int t = 0; t < plain_lora_rows; ++t) sum[t][r] += x[t][i] * w;
                }
            }
        }
#pragma unroll
        for (int t = 0; t < plain_lora_rows; ++t) {
#pragma unroll
            for (int r = 0; r < plain_lora_ranks; ++r) {
                const float total[1] = {warp_sum(sum[t][r]) * scale};
                if (lane == 0 && tile.first + t < tile.end && first + r < factor.rank) {
                    store(a.s.at(tile.first + t, first + r), total);
                }
            }
        }
    }
}

/// A thread adds to eight columns of each of its rows. Grid: tile_numbers(rows, slots, 4) x
/// ceil(depth / 8 threads).
template <LoraSide side, class T>
__global__ void plain_lora_up_kernel(LoraUp<T> a) {
    const Tile tile = find_tile<plain_lora_rows>(a.slots.row_begin, a.slots.count, blockIdx.x);
    if (tile.empty()) return;
    const LoraSlot& slot = a.slots.adapters[tile.segment];
    const Factor factor = factor_of<side>(slot, a.depth);
    const std::int64_t column = (std::int64_t{blockIdx.y} * plain_lora_threads + threadIdx.x) * 8;
    if (factor.rank == 0 || column >= a.depth) return;
    float sum[plain_lora_rows][8] = {};
    for (std::int64_t r = 0; r < factor.rank; ++r) {
        float w[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) w[i] = column + i < a.depth ? factor.at(r, column + i) : 0.0F;
#pragma unroll
        for (int t = 0; t < plain_lora_rows; ++t) {
            if (tile.first + t >= tile.end) continue;
            const float s = to_float(*a.s.at(tile.first + t, r));
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[t][i] += s * w[i];
        }
    }
    const float scale = side == LoraSide::input ? a.dropout.factor : slot.scale;
#pragma unroll
    for (int t = 0; t < plain_lora_rows; ++t) {
        const std::int64_t row = tile.first + t;
        if (row >= tile.end) continue;
        if (side == LoraSide::input && a.dropout.threshold > 0) {
            drop(sum[t],
                 keep_mask(dropout_row(a.dropout, a.module, tile.segment, row), column / 8));
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (column + i >= a.depth) continue;
            T* const y = a.y.at(row, column + i);
            const float value[1] = {to_float(*y) + scale * sum[t][i]};
            store(y, value);
        }
    }
}

/// A thread makes the share of eight columns and eight ranks of a chunk. Grid: tile_numbers(rows,
/// slots, gradient_chunk) x (ceil(depth / 8 threads) * rank_tiles), rank_tiles = ceil(largest rank
/// / 8).
template <LoraSide side, class T>
__global__ void plain_lora_gradient_kernel(LoraGradient<T> a, int rank_tiles) {
    const DeviceSlots& slots = a.shares.slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty()) return;
    const std::int64_t rank = slots.adapters[tile.segment].rank, y = blockIdx.y;
    const std::int64_t depth = a.shares.depth;
    const std::int64_t first = y % rank_tiles * plain_lora_ranks;
    const std::int64_t column = (y / rank_tiles * plain_lora_threads + threadIdx.x) * 8;
    if (first >= rank || column >= depth) return;
    float sum[plain_lora_ranks][8] = {};
    for (std::int64_t row = tile.first; row < tile.end; ++row) {
        float x[8];
        load_dropped<side>(x, a.x.at(row, 0), column, depth, a.dropout, a.module, tile.segment,
                           row);
#pragma unroll
        for (int r = 0; r < plain_lora_ranks; ++r) {
            if (first + r >= rank) continue;
            const float s = to_float(*a.s.at(row, first + r));
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[r][i] += s * x[i];
        }
    }
    float* const part = a.shares.chunk(blockIdx.x);
#pragma unroll
    for (int r = 0; r < plain_lora_ranks; ++r) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (first + r < rank && column + i < depth) {
                part[place_in_factor<side>(first + r, column + i, rank, depth)] = sum[r][i];
            }
        }
    }
}

}  // namespace fedit::cuda
