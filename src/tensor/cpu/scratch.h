// tensor/cpu/scratch.h: working memory that operations reuse, so that none allocates every time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace fedit::cpu {

inline constexpr std::size_t alignment = 64;

struct FreeAligned {
    void operator()(void* memory) const noexcept { std::free(memory); }
};

/// 64-byte aligned memory, not initialised. Throws std::bad_alloc.
inline std::unique_ptr<std::byte, FreeAligned> allocate_aligned(std::size_t bytes) {
    const std::size_t whole =
        (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, whole);
    if (memory == nullptr) throw std::bad_alloc();
    return std::unique_ptr<std::byte, FreeAligned>(static_cast<std::byte*>(memory));
}

/// One buffer that grows to the largest request. An operation takes once and divides what it got.
class Scratch {
public:
    std::byte* bytes(std::size_t count) {
        if (count > size_) {
            memory_.reset();
            size_ = 0;
            memory_ = allocate_aligned(count);
            size_ = count;
        }
        return memory_.get();
    }
    float* floats(std::int64_t count) {
        return reinterpret_cast<float*>(bytes(static_cast<std::size_t>(count) * sizeof(float)));
    }

private:
    std::unique_ptr<std::byte, FreeAligned> memory_;
    std::size_t size_ = 0;
};

/// `count` floats rounded up so that the next part of a scratch buffer is aligned too.
constexpr std::int64_t aligned_floats(std::int64_t count) {
    return (count + 15) / 16 * 16;
}

}  // namespace fedit::cpu
