// tensor/cuda/lora_tiles.cuh: what the kernels of adapters on tensor cores share. A block takes a
// chunk of one member's rows and a slice of columns, 16 rows at a time; the factor's slice and the
// gradient's stay in registers, the narrow operand of the chunk lies in shared memory.
//
// Lane l holds columns 8 (l % 4) .. + 7 of 32, a 16-byte vector and a Philox block, of rows l / 4
// and l / 4 + 8. A word of it is a lane's part of an 8 x 8 matrix as mma wants it, transposed or
// not, if columns are numbered as they lie in the vectors.
#pragma once

#include "tensor/cuda/lora_arguments.cuh"

namespace fedit::cuda {

/// Distance of rows of s in shared memory: ldmatrix finds eight of them in different banks.
template <int ranks>
inline constexpr int narrow_stride = ranks + 8;

/// Elements of a chunk's rows there.
template <int ranks>
inline constexpr int narrow_size = gradient_chunk* narrow_stride<ranks>;

template <int ranks>
inline constexpr std::size_t narrow_bytes = sizeof(Bf16) * narrow_size<ranks>;

inline constexpr std::size_t counter_bytes = sizeof(std::int64_t) * gradient_chunk;

/// The largest rank that a tile's member has in any of the layers.
template <int layers, class Layer>
__device__ std::int64_t largest_rank(const Layer (&layer)[layers], std::int64_t member) {
    std::int64_t rank = 0;
#pragma unroll
    for (int l = 0; l < layers; ++l) {
        const std::int64_t own = layer[l].slots.adapters[member].rank;
        rank = rank < own ? own : rank;
    }
    return rank;
}

/// Word i of a vector.
__device__ inline std::uint32_t word(const uint4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/// Rows of a tile, rounded up to those that mma takes.
__device__ inline int padded_rows(const Tile& tile) {
    return static_cast<int>(tile.end - tile.first + 15) / 16 * 16;
}

/// The first `count` of eight elements; zeros beyond.
__device__ inline uint4 load_elements(const Bf16* from, std::int64_t count) {
    std::uint32_t bits[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) bits[i] = i < count ? from[i].bits : 0U;
    return {bits[0] | bits[1] << 16, bits[2] | bits[3] << 16, bits[4] | bits[5] << 16,
            bits[6] | bits[7] << 16};
}

/// Columns [first_rank, first_rank + ranks) of a tile's rows of s; zeros beyond both. Whole vectors
/// are loaded several at a time: the block waits for them before it can begin.
template <int ranks>
__device__ void load_narrow(Bf16* to, Rows<Bf16> s, const Tile& tile, std::int64_t first_rank,
                            std::int64_t rank) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(s.data) % 16 == 0 && s.stride % 8 == 0;
    const int vectors = ranks / 8, count = padded_rows(tile) * vectors;
    const int rows = static_cast<int>(tile.end - tile.first);
    const int step = static_cast<int>(blockDim.x);
    if (aligned && rank - first_rank >= ranks) {
#pragma unroll 4
        for (int i = static_cast<int>(threadIdx.x); i < count; i += step) {
            const int r = 8 * (i % vectors), t = i / vectors;
            const uint4 v = load16(s.at(tile.first + (t < rows ? t : 0), first_rank + r));
            store16(to + t * narrow_stride<ranks> + r, t < rows ? v : uint4{0, 0, 0, 0});
        }
        return;
    }
    for (int i = static_cast<int>(threadIdx.x); i < count; i += step) {
        const int r = 8 * (i % vectors), t = i / vectors;
        const std::int64_t left = t < rows ? rank - first_rank - r : 0;
        store16(to + t * narrow_stride<ranks> + r,
                load_elements(s.at(tile.first + t, first_rank + r), left));
    }
}

/// The dropout counters of a tile's rows; beyond them, where nothing is left to drop, the first's.
__device__ inline void load_counters(std::int64_t* to, const DeviceDropout& dropout,
                                     const Tile& tile) {
    const int count = padded_rows(tile), rows = static_cast<int>(tile.end - tile.first);
#pragma unroll 2
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
        to[i] = dropout.row_counter[tile.first + (i < rows ? i : 0)];
    }
}

/// Draws masks of a member's rows, whose counters lie in shared memory, for any linear layer.
struct TileDropout {
    std::uint64_t key = 0;
    std::uint32_t threshold;
    const std::int64_t* counters;

    __device__ TileDropout(const DeviceDropout& dropout, std::int64_t slot,
                           const std::int64_t* in_shared)
        : threshold(dropout.threshold), counters(in_shared) {
        if (threshold > 0) key = dropout.slot_key[slot];
    }
    /// Ones where nothing is dropped.
    __device__ uint4 mask(std::uint32_t module, int row, std::int64_t column) const {
        if (threshold == 0) return {~0U, ~0U, ~0U, ~0U};
        return keep_mask(dropout_row(key, module, counters[row], threshold), column / 8);
    }
};

/// A lane's vectors of a matrix, 16 rows of a tile at a time: its two rows' in each of `groups`
/// times 32 columns, which begin `distance` columns apart.
template <int groups, int distance = 32>
struct LaneVectors {
    Bf16* at;
    std::int64_t eight_rows;
    int left;  ///< rows of the tile from the lane's first on
    bool inside[groups];

    __device__ LaneVectors(Rows<Bf16> matrix, const Tile& tile, std::int64_t column,
                           std::int64_t depth) {
        const int place = static_cast<int>(threadIdx.x) % 32 / 4;
        at = matrix.at(tile.first + place, column);
        eight_rows = 8 * matrix.stride;
        left = static_cast<int>(tile.end - tile.first) - place;
#pragma unroll
        for (int g = 0; g < groups; ++g) inside[g] = column + distance * g < depth;
    }
    /// Zeros beyond the tile and the matrix.
    __device__ void load(uint4 (&v)[groups][2]) const {
#pragma unroll
        for (int g = 0; g < groups; ++g) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                v[g][r] = uint4{0, 0, 0, 0};
                if (inside[g] && 8 * r < left) v[g][r] = load16(at + r * eight_rows + distance * g);
            }
        }
    }
    /// Of the lane's row r.
    __device__ void store(const uint4& v, int r, int group = 0) const {
        if (inside[group] && 8 * r < left) store16(at + r * eight_rows + distance * group, v);
    }
    /// To the next 16 rows.
    __device__ void advance() {
        at += 2 * eight_rows;
        left -= 16;
    }
};

/// Rows [t, t + 16) and 16 ranks of s as mma's left operand.
template <int ranks>
__device__ void load_left(std::uint32_t (&left)[4], const Bf16* s, int t, int first_rank) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    ldmatrix(left, s + (t + lane % 16) * narrow_stride<ranks> + first_rank + 8 * (lane / 16));
}

/// The same transposed: 16 ranks of 16 rows.
template <int ranks>
__device__ void load_left_transposed(std::uint32_t (&left)[4], const Bf16* s, int t,
                                     int first_rank) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    ldmatrix_transposed(left, s + (t + 8 * (lane / 16) + lane % 8) * narrow_stride<ranks> +
                                  first_rank + 8 * (lane / 8 % 2));
}

/// sum[k][i] (16 ranks x 8 columns) += s^T x of 16 rows, for word i of the vectors.
template <int KT>
__device__ void add_gradient(float (&sum)[KT][4][4], const std::uint32_t (&left)[KT][4],
                             const uint4 (&x)[2]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t b0 = transposed(word(x[0], i)), b1 = transposed(word(x[1], i));
#pragma unroll
        for (int k = 0; k < KT; ++k) mma(sum[k][i], left[k], b0, b1);
    }
}

/// Stores what add_gradient summed: a lane has eight neighbouring columns of two ranks of 16.
template <LoraSide side, int KT>
__device__ void store_gradient(float* part, const float (&sum)[KT][4][4], std::int64_t first_rank,
                               std::int64_t rank, std::int64_t column, std::int64_t depth) {
    if (column >= depth) return;
    const int place = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int k = 0; k < KT; ++k) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const std::int64_t r = first_rank + 16 * k + 8 * h + place;
            if (r >= rank) continue;
            float x[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) x[i] = sum[k][i / 2][2 * h + i % 2];
            if constexpr (side == LoraSide::input) {
                store(part + r * depth + column, x);
            } else {
#pragma unroll
                for (int i = 0; i < 8; ++i) part[(column + i) * rank + r] = x[i];
            }
        }
    }
}

}  // namespace fedit::cuda
