// tensor/cuda/attention_hopper.h: the kernels of attention on tiles for cards of compute capability
// 9.0 (H100, H200), whose groups of warps multiply together.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string_view>

#include "tensor/cuda/bf16.h"

namespace fedit::cuda {

template <class T>
struct Attention;

/// Starts kernels on a stream; throws RunError naming `operation` if one could not be started.
class HopperAttention {
public:
    HopperAttention(cudaStream_t stream, std::string_view operation)
        : stream_(stream), operation_(operation) {}

    /// Whether the current device and this program have them for heads of so many columns.
    static bool takes(std::int64_t head_dim);

    void forward(const Attention<Bf16>& a) const;
    void backward(const Attention<Bf16>& a) const;

private:
    cudaStream_t stream_;
    std::string_view operation_;
};

}  // namespace fedit::cuda
