// core/aligned_memory.cpp: memory for numbers, aligned to cache lines and in large pages.
#include "fedit/core/aligned_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace fedit {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;

}  // namespace

void FreeAligned::operator()(std::byte* memory) const noexcept {
    std::free(memory);
}

AlignedMemory allocate_aligned(std::size_t bytes) {
    const bool large = bytes >= 2 * huge_page;
    const std::size_t alignment = large ? huge_page : memory_alignment;
    const std::size_t whole = (std::max<std::size_t>(bytes, 1) + memory_alignment - 1) /
                              memory_alignment * memory_alignment;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, whole) != 0) throw std::bad_alloc();
    // Rows of matrices are pages apart, and few small pages fit a core's table of them. Only whole
    // huge pages are asked for, so that the end takes no more memory than it needs. Where they are
    // refused the memory works all the same.
    if (large) static_cast<void>(madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE));
    return AlignedMemory(static_cast<std::byte*>(memory));
}

}  // namespace fedit
