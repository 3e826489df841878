// tensor/cuda/loss_chunks.h: how many rows of logits are held at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fedit::cuda {

/// Logits take no more device memory than this, unless one row does.
inline constexpr std::int64_t loss_chunk_bytes = std::int64_t{128} << 20;

/// Floats between rows of logits: aligned for 16-byte accesses, as fp32 and as bf16.
constexpr std::int64_t logits_stride(std::int64_t vocab) {
    return (vocab + 7) / 8 * 8;
}

/// Rows of a chunk; a multiple of 128, the height of a product's tiles, where there is room.
constexpr std::int64_t loss_chunk_rows(std::int64_t rows, std::int64_t vocab) {
    constexpr std::int64_t tile = 128;
    const std::int64_t fit = loss_chunk_bytes / (logits_stride(vocab) * 4);
    const std::int64_t whole = fit >= tile ? fit / tile * tile : std::max<std::int64_t>(fit, 1);
    return std::min(rows, whole);
}

}  // namespace fedit::cuda
