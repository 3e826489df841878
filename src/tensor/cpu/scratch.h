// tensor/cpu/scratch.h: working memory that operations reuse, so that none allocates every time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedit/core/aligned_memory.h"

namespace fedit::cpu {

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
    AlignedMemory memory_;
    std::size_t size_ = 0;
};

/// `count` floats rounded up so that the next part of a scratch buffer is aligned too.
constexpr std::int64_t aligned_floats(std::int64_t count) {
    return (count + 15) / 16 * 16;
}

}  // namespace fedit::cpu
