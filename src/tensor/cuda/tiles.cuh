// tensor/cuda/tiles.cuh: cuts the rows of segments (packed sequences, or cohort members) into tiles
// that never cross a segment, so that what a block computes depends on its segment alone.
#pragma once

#include <cstdint>

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// Rows [first, end) of all rows; `first` is row `place` of its segment. Empty: nothing to do.
struct Tile {
    std::int64_t segment, place, first, end;

    __device__ bool empty() const { return first >= end; }
};

/// The last of `count` segments for which begun(i) holds; it holds for the first ones, and for 0.
/// One load a lane for every 32 segments, no barrier.
template <class Begun>
__device__ std::int64_t last_begun(std::int64_t count, const Begun& begun) {
    std::int64_t others = 0;
    for (std::int64_t i = 1 + threadIdx.x % 32; i < count; i += 32) {
        if (begun(i)) ++others;
    }
    return warp_sum(others);
}

/// Tile `number` of segments [begin[i], begin[i + 1]), begin[0] = 0. Segment i has the numbers from
/// begin[i] / rows + i on: at least as many as it needs, so no table of tiles is uploaded.
template <int rows>
__device__ Tile find_tile(const std::int64_t* begin, std::int64_t count, std::int64_t number) {
    const std::int64_t i =
        last_begun(count, [&](std::int64_t j) { return begin[j] / rows + j <= number; });
    const std::int64_t place = (number - (begin[i] / rows + i)) * rows;
    const std::int64_t first = begin[i] + place, left = begin[i + 1];
    return {i, place, first, first + rows < left ? first + rows : left};
}

/// Row `row` as a tile of its own.
__device__ inline Tile find_row(const std::int64_t* begin, std::int64_t count, std::int64_t row) {
    const std::int64_t i = last_begun(count, [&](std::int64_t j) { return begin[j] <= row; });
    return {i, row - begin[i], row, row + 1};
}

/// Numbers that find_tile is to be asked for.
constexpr std::int64_t tile_numbers(std::int64_t all_rows, std::int64_t segments, int rows) {
    return all_rows / rows + segments;
}

}  // namespace fedit::cuda
