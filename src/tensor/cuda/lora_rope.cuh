// tensor/cuda/lora_rope.cuh: the wide product of an adapter whose output a rotary position turns,
// in one pass with that: y is read and written once.
#pragma once

#include "tensor/cuda/lora_up.cuh"
#include "tensor/cuda/rotary.h"
#include "tensor/cuda/rotation.cuh"

namespace fedit::cuda {

/// Columns of a block: a warp has 32 of the low half of a head and their 32 partners.
inline constexpr int rope_columns = 64 * up_threads / 32;

/// y += the layer's product; then y's heads turn.
struct LoraRope {
    LayerWide layer;
    Rows<Bf16> y;
    DeviceRotary rotary;
    std::int64_t depth;
};

/// A vector of bf16 as floats, and back.
__device__ inline void unpack(float (&x)[8], const uint4& v) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        x[2 * i] = low_half(word(v, i));
        x[2 * i + 1] = high_half(word(v, i));
    }
}
__device__ inline uint4 packed(const float (&x)[8]) {
    return {pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])};
}

/// Turns vectors of both halves of a head by the angles that begin at `angles`.
template <int half>
__device__ void turn(uint4& low, uint4& high, const float* angles) {
    float a[8], b[8], cosine[8], sine[8];
    unpack(a, low);
    unpack(b, high);
    load(cosine, angles);
    load(sine, angles + half);
    turn(a, b, cosine, sine);
    low = packed(a);
    high = packed(b);
}

template <int KT>
inline constexpr int rope_blocks = KT == 1 ? 4 : 3;

/// All of it, for ranks up to 16 KT and heads of 2 half columns. Grid: tile_numbers(rows, slots,
/// gradient_chunk) x ceil(depth / rope_columns).
template <int KT, int half>
__global__ void __launch_bounds__(up_threads, rope_blocks<KT>) lora_rope_kernel(LoraRope a) {
    const DeviceSlots& slots = a.layer.slots;
    const Tile tile = find_tile<gradient_chunk>(slots.row_begin, slots.count, blockIdx.x);
    if (tile.empty()) return;
    constexpr int parts = half / up_warp_columns;
    const int warp = static_cast<int>(blockIdx.y * (up_threads / 32) + threadIdx.x / 32);
    const int part = warp % parts * up_warp_columns;  // of the half
    const std::int64_t head = std::int64_t{warp / parts} * 2 * half;
    const UpPlace place = up_place(head + part);

    LaneVectors<2, half> ys(a.y, tile, place.column, a.depth);
    uint4 y[2][2];
    ys.load(y);
    auto* const s = reinterpret_cast<Bf16*>(dynamic_shared());
    const LoraSlot& slot = slots.adapters[tile.segment];
    const Factor factor = factor_of<LoraSide::output>(slot, a.depth);
    std::uint32_t w[2][KT][4][2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        load_right(w[h], factor, place.rank, place.weight_column + h * half);
    }
    load_narrow<16 * KT>(s, a.layer.s, tile, 0, slot.rank);
    const float scale = slot.scale;
    __syncthreads();

    const int count = static_cast<int>(tile.end - tile.first);
#pragma unroll 1
    for (int t = 0; t < count; t += 16) {
        float sum[2][4][4] = {};
#pragma unroll
        for (int h = 0; h < 2; ++h) wide_product<KT>(sum[h], s, t, w[h]);
        uint4 result[2][2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = t + place.row + 8 * r < count ? t + place.row + 8 * r : 0;
            const std::int64_t position = a.rotary.positions[tile.first + row];
            result[0][r] = added(y[0][r], sum[0], r, scale);
            result[1][r] = added(y[1][r], sum[1], r, scale);
            turn<half>(result[0][r], result[1][r],
                       a.rotary.table + position * 2 * half + (place.column - head));
        }
        // The next rows are on their way while these are written.
        const LaneVectors<2, half> current = ys;
        ys.advance();
        ys.load(y);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
#pragma unroll
            for (int h = 0; h < 2; ++h) current.store(result[h][r], r, h);
        }
    }
}

}  // namespace fedit::cuda
