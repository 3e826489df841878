// tensor/cuda/launch.h: the shape of a launch, the same for a GPU and for the CPU of a twin test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fedit::cuda {

/// Blocks (the long dimension in x), threads of a block (a multiple of 32), dynamic shared memory.
struct Grid {
    std::int64_t x = 0;
    int threads = 0;
    int y = 1;
    std::size_t shared_bytes = 0;
};

/// Shared memory of a block on cards of compute capability 8.6, 8.9 and 12: the least there is.
inline constexpr std::size_t least_block_memory = 99 << 10;

}  // namespace fedit::cuda
