// core/parallel.h: loops on several threads outside of the back ends: reading, hashing, copying.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace fedit {

/// Calls body(i) for each i in [0, count) on up to `threads` threads, in any order, and waits for
/// all of them. If calls throw, what the one with the least i threw is thrown again.
void run_parallel(int threads, std::int64_t count, const std::function<void(std::int64_t)>& body);

/// memcpy on up to `threads` threads.
void copy_parallel(int threads, std::byte* to, const std::byte* from, std::size_t bytes);

}  // namespace fedit
