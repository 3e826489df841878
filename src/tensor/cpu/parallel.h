// tensor/cpu/parallel.h: the one way in which CPU operations use threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace fedit::cpu {

/// Calls body(i, thread) for each i in [0, count) on up to `threads` threads, in any order: calls
/// must write disjoint memory and must not throw.
template <class Body>
void parallel_for(int threads, std::int64_t count, const Body& body) {
    static_assert(noexcept(body(std::int64_t{}, int{})), "nothing may be thrown inside OpenMP");
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (std::int64_t i = 0; i < count; ++i) body(i, omp_get_thread_num());
}

/// Splits [0, count) into blocks of `block` (the last may be smaller) and calls body(begin, end).
template <class Body>
void parallel_blocks(int threads, std::int64_t count, std::int64_t block, const Body& body) {
    static_assert(noexcept(body(std::int64_t{}, std::int64_t{})),
                  "nothing may be thrown inside OpenMP");
    parallel_for(threads, (count + block - 1) / block, [&](std::int64_t i, int) noexcept {
        body(i * block, std::min(count, (i + 1) * block));
    });
}

}  // namespace fedit::cpu
