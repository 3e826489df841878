// tensor/cuda/stream_launch.cuh: starts kernels on a stream of a GPU.
#pragma once

#include <limits>
#include <string_view>

#include "tensor/cuda/check.h"
#include "tensor/cuda/launch.h"

namespace fedit::cuda {

/// What the launch templates beside the kernels (`launch_rms_norm` in rms_norm.cuh) start kernels
/// with; the emulation has the other one. Throws RunError naming `operation` if a kernel could not
/// be started.
class StreamLaunch {
public:
    StreamLaunch(cudaStream_t stream, std::string_view operation)
        : stream_(stream), operation_(operation) {}

    template <class... Parameters, class... Arguments>
    void operator()(const Grid& grid, void (*kernel)(Parameters...), Arguments... arguments) const {
        if (grid.x > std::numeric_limits<int>::max()) {
            check(cudaErrorInvalidConfiguration, operation_);
        }
        constexpr std::size_t always_allowed = 48 << 10;
        if (grid.shared_bytes > always_allowed) {
            check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(grid.shared_bytes)),
                  operation_);
        }
        const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
        kernel<<<blocks, static_cast<unsigned>(grid.threads), grid.shared_bytes, stream_>>>(
            arguments...);
        check(cudaGetLastError(), operation_);
    }

private:
    cudaStream_t stream_;
    std::string_view operation_;
};

}  // namespace fedit::cuda
