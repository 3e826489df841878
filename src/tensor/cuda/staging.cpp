// tensor/cuda/staging.cpp: copies through two halves of pinned memory.
#include "tensor/cuda/staging.h"

#include <algorithm>
#include <cstring>

#include "fedit/core/parallel.h"

namespace fedit::cuda {

namespace {

/// Large enough that a copy's start costs nothing, small enough to stay in the processor's cache.
constexpr std::size_t half_bytes = std::size_t{16} << 20;

}  // namespace

Staging::Staging(cudaStream_t stream, int threads)
    : stream_(stream),
      threads_(threads),
      ring_(half_bytes),
      memory_(allocate_pinned(2 * half_bytes)),
      read_{make_event(), make_event()} {}

void Staging::upload(void* to, std::span<const std::byte> from) {
    auto* target = static_cast<std::byte*>(to);
    while (!from.empty()) {
        const HalfRing::Piece piece = ring_.take(from.size());
        if (piece.turned) {
            check(cudaEventRecord(read_[1 - piece.half].get(), stream_), "mark an upload");
            check(cudaEventSynchronize(read_[piece.half].get()), "wait for an upload");
        }
        copy_parallel(threads_, pinned() + piece.offset, from.data(), piece.bytes);
        check(cudaMemcpyAsync(target, pinned() + piece.offset, piece.bytes, cudaMemcpyHostToDevice,
                              stream_),
              "copy to the device");
        target += piece.bytes;
        from = from.subspan(piece.bytes);
    }
}

void Staging::download(std::span<std::byte> to, const void* from) {
    // The stream has read all that was uploaded before it writes here.
    const auto* source = static_cast<const std::byte*>(from);
    do {
        const std::size_t bytes = std::min(to.size(), 2 * half_bytes);
        if (bytes > 0) {
            check(cudaMemcpyAsync(pinned(), source, bytes, cudaMemcpyDeviceToHost, stream_),
                  "copy from the device");
        }
        check(cudaStreamSynchronize(stream_), "wait for the device");
        if (bytes > 0) std::memcpy(to.data(), pinned(), bytes);
        source += bytes;
        to = to.subspan(bytes);
    } while (!to.empty());
}

}  // namespace fedit::cuda
