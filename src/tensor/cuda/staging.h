// tensor/cuda/staging.h: copies between host and device through pinned memory, so that uploads are
// done with the host's memory at once and never wait for the kernels before them.
#pragma once

#include <array>
#include <span>

#include "tensor/cuda/half_ring.h"
#include "tensor/cuda/handles.h"

namespace fedit::cuda {

/// All copies go on one stream, in the order of calls.
class Staging {
public:
    /// `threads` fill and empty the pinned memory.
    Staging(cudaStream_t stream, int threads);

    /// `from` may be changed when it returns; the copy goes on behind it.
    void upload(void* to, std::span<const std::byte> from);
    /// Waits for the stream.
    void download(std::span<std::byte> to, const void* from);

private:
    std::byte* pinned() const { return static_cast<std::byte*>(memory_.get()); }

    cudaStream_t stream_;
    int threads_;
    HalfRing ring_;
    PinnedMemory memory_;
    std::array<Event, 2> read_;     ///< the last upload out of a half
    std::array<Event, 2> written_;  ///< the last download into a half
};

}  // namespace fedit::cuda
