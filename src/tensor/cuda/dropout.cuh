// tensor/cuda/dropout.cuh: dropout masks inside the loads of kernels (fedit/tensor/backend.h says
// which). One Philox block serves eight neighbouring columns: a 16-byte vector of bf16.
#pragma once

#include <cstdint>

#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/slots.h"

namespace fedit::cuda {

/// What decides the mask of one row.
struct DropoutRow {
    std::uint32_t key0, key1, module, counter0, counter1, threshold;
};

__device__ inline DropoutRow dropout_row(std::uint64_t key, std::uint32_t module,
                                         std::int64_t row_counter, std::uint32_t threshold) {
    const auto counter = static_cast<std::uint64_t>(row_counter);
    return {.key0 = static_cast<std::uint32_t>(key),
            .key1 = static_cast<std::uint32_t>(key >> 32),
            .module = module,
            .counter0 = static_cast<std::uint32_t>(counter),
            .counter1 = static_cast<std::uint32_t>(counter >> 32),
            .threshold = threshold};
}
__device__ inline DropoutRow dropout_row(const DeviceDropout& dropout, std::uint32_t module,
                                         std::int64_t slot, std::int64_t row) {
    return dropout_row(dropout.slot_key[slot], module, dropout.row_counter[row], dropout.threshold);
}

/// Philox4x32-10 (Salmon et al., SC 2011).
__device__ inline uint4 philox(uint4 counter, std::uint32_t key0, std::uint32_t key1) {
    uint4 c = counter;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t a = std::uint64_t{0xD2511F53U} * c.x;
        const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * c.z;
        c = uint4{static_cast<std::uint32_t>(b >> 32) ^ c.y ^ key0, static_cast<std::uint32_t>(b),
                  static_cast<std::uint32_t>(a >> 32) ^ c.w ^ key1, static_cast<std::uint32_t>(a)};
        key0 += 0x9E3779B9U;
        key1 += 0xBB67AE85U;
    }
    return c;
}

/// All ones in each half of `bits` that reaches the threshold. Each half is compared as the upper
/// one of a word, which needs no shift for one of the two.
__device__ inline std::uint32_t kept_halves(std::uint32_t bits, std::uint32_t threshold) {
    const std::uint32_t upper = threshold << 16;
    return (bits << 16 >= upper ? 0x0000ffffU : 0U) | (bits >= upper ? 0xffff0000U : 0U);
}

/// The mask of columns 8 `vector` .. 8 `vector` + 7 for a vector of bf16: ones where kept.
__device__ inline uint4 keep_mask(const DropoutRow& row, std::int64_t vector) {
    const uint4 r =
        philox(uint4{static_cast<std::uint32_t>(vector), row.module, row.counter0, row.counter1},
               row.key0, row.key1);
    return {kept_halves(r.x, row.threshold), kept_halves(r.y, row.threshold),
            kept_halves(r.z, row.threshold), kept_halves(r.w, row.threshold)};
}

__device__ inline uint4 drop(uint4 x, uint4 mask) {
    return {x.x & mask.x, x.y & mask.y, x.z & mask.z, x.w & mask.w};
}

/// The same for eight values in registers.
__device__ inline void drop(float (&x)[8], uint4 mask) {
    const std::uint32_t words[4] = {mask.x, mask.y, mask.z, mask.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if ((words[i / 2] >> (i % 2 * 16) & 1U) == 0) x[i] = 0;
    }
}

}  // namespace fedit::cuda
