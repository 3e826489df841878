// tensor/cuda/loss_chunks.h: how many rows of logits are held at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace fedit::cuda {

/// Floats between rows of logits: aligned for 16-byte accesses, as fp32 and as bf16.
constexpr std::int64_t logits_stride(std::int64_t vocab) {
    return (vocab + 7) / 8 * 8;
}

/// Rows of a chunk; a multiple of 128, the height of a product's tiles, where there is room.
///
/// Each chunk reads the whole head twice, and the gradient of its rows is a product with few tiles
/// and a depth of the whole vocabulary that is not split: 256 rows fill a quarter of a large card,
/// 1024 rows nearly all of it. So a large vocabulary gets more memory, up to that many rows.
constexpr std::int64_t loss_chunk_rows(std::int64_t rows, std::int64_t vocab) {
    constexpr std::int64_t tile = 128, enough = 1024;
    constexpr std::int64_t usual_bytes = std::int64_t{128} << 20,
                           most_bytes = std::int64_t{1} << 30;
    const std::int64_t row_bytes = logits_stride(vocab) * 4;
    const std::int64_t fit =
        std::max(usual_bytes / row_bytes, std::min(enough, most_bytes / row_bytes));
    const std::int64_t whole = fit >= tile ? fit / tile * tile : std::max<std::int64_t>(fit, 1);
    return std::min(rows, whole);
}

/// Device memory that logits take: a chunk.
constexpr std::size_t loss_chunk_bytes(std::int64_t rows, std::int64_t vocab) {
    return static_cast<std::size_t>(loss_chunk_rows(rows, vocab) * logits_stride(vocab)) *
           sizeof(float);
}

}  // namespace fedit::cuda
