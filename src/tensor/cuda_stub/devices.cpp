// tensor/cuda_stub/devices.cpp: a build without CUDA sees no devices.
#include "fedit/tensor/cuda_devices.h"

namespace fedit {

CudaDevices find_cuda_devices() {
    CudaDevices found;
    found.trouble = "this build has no CUDA back end";
    found.remedy = "use --device cpu, or build fedit with the preset cuda";
    return found;
}

std::int64_t cuda_library_bytes() {
    return 0;
}

int cuda_device_count() {
    return 0;
}

}  // namespace fedit
