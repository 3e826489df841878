// comm/chunk.h: long messages travel in chunks, since MPI counts elements in an int.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace fedit {

/// Large enough for full bandwidth, far below 2^31 elements.
inline constexpr std::size_t chunk_bytes = std::size_t{16} << 20;

/// Calls send(chunk) for each chunk of `values` in order, of at most `most` bytes; never with an
/// empty one.
template <class T, class Send>
void for_each_chunk(std::span<T> values, Send send, std::size_t most = chunk_bytes) {
    const std::size_t limit = most / sizeof(T);
    while (!values.empty()) {
        const std::size_t count = std::min(limit, values.size());
        send(values.first(count));
        values = values.subspan(count);
    }
}

}  // namespace fedit
