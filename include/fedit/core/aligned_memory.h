// core/aligned_memory.h: memory for numbers, aligned to cache lines and in large pages.
#pragma once

#include <cstddef>
#include <memory>

namespace fedit {

/// Of all memory for numbers, in bytes: a cache line, and the longest vector.
inline constexpr std::size_t memory_alignment = 64;

struct FreeAligned {
    void operator()(std::byte* memory) const noexcept;
};
using AlignedMemory = std::unique_ptr<std::byte, FreeAligned>;

/// Memory of at least `bytes` bytes, not initialised, aligned to memory_alignment; in huge pages
/// where it is large and Linux gives them to who asks (transparent_hugepage = madvise or always).
/// Throws std::bad_alloc.
AlignedMemory allocate_aligned(std::size_t bytes);

}  // namespace fedit
