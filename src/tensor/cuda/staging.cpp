// tensor/cuda/staging.cpp: copies through two halves of pinned memory.
#include "tensor/cuda/staging.h"

#include <algorithm>

#include "fedit/core/parallel.h"

namespace fedit::cuda {

namespace {

/// Large enough that a copy's start costs nothing, small enough to stay in the processor's cache.
constexpr std::size_t half_bytes = std::size_t{16} << 20;
/// Of a download, which the host copies while the next one comes.
constexpr std::size_t piece_bytes = std::size_t{4} << 20;
static_assert(piece_bytes <= half_bytes);

}  // namespace

Staging::Staging(cudaStream_t stream, int threads)
    : stream_(stream),
      threads_(threads),
      ring_(half_bytes),
      memory_(allocate_pinned(2 * half_bytes)),
      read_{make_event(), make_event()},
      written_{make_event(), make_event()} {}

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
    // The stream has read all that was uploaded before it writes here. While the host empties one
    // half the device fills the other.
    const auto* source = static_cast<const std::byte*>(from);
    const auto fill = [&](std::size_t piece) {
        const std::size_t first = piece * piece_bytes;
        if (first >= to.size()) return;
        check(cudaMemcpyAsync(pinned() + piece % 2 * half_bytes, source + first,
                              std::min(piece_bytes, to.size() - first), cudaMemcpyDeviceToHost,
                              stream_),
              "copy from the device");
        check(cudaEventRecord(written_[piece % 2].get(), stream_), "mark a download");
    };
    fill(0);
    for (std::size_t piece = 0; piece * piece_bytes < to.size(); ++piece) {
        fill(piece + 1);
        check(cudaEventSynchronize(written_[piece % 2].get()), "wait for a download");
        const std::size_t first = piece * piece_bytes;
        copy_parallel(threads_, to.data() + first, pinned() + piece % 2 * half_bytes,
                      std::min(piece_bytes, to.size() - first));
    }
    if (to.empty()) check(cudaStreamSynchronize(stream_), "wait for the device");
}

}  // namespace fedit::cuda
