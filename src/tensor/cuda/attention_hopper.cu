// tensor/cuda/attention_hopper.cu: compiled for sm_90a alone, whatever the other kernels are for.
#include "tensor/cuda/group_mma.cuh"

#include "tensor/cuda/attention.cuh"
#include "tensor/cuda/attention_group_products.cuh"
#include "tensor/cuda/attention_hopper.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

bool HopperAttention::takes(std::int64_t head_dim) {
    if (head_dim > ByGroups::widest) return false;
    int device = 0, major = 0, minor = 0;
    check(cudaGetDevice(&device), "the current device");
    const auto read = [&](int& value, cudaDeviceAttr attribute) {
        check(cudaDeviceGetAttribute(&value, attribute, device), "a device's compute capability");
    };
    read(major, cudaDevAttrComputeCapabilityMajor);
    read(minor, cudaDevAttrComputeCapabilityMinor);
    return major == 9 && minor == 0;
}

void HopperAttention::forward(const Attention<Bf16>& a) const {
    const StreamLaunch launch(stream_, operation_);
    TiledAttention<ByGroups, StreamLaunch>(launch).forward(a);
}

void HopperAttention::backward(const Attention<Bf16>& a) const {
    const StreamLaunch launch(stream_, operation_);
    TiledAttention<ByGroups, StreamLaunch>(launch).backward(a);
}

}  // namespace fedit::cuda
