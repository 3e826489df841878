// tensor/cuda/devices.h: what one device is, and the choice of one.
#pragma once

#include "fedit/tensor/cuda_devices.h"

namespace fedit::cuda {

/// "CUDA 13.0, cuBLASLt 13.1.0".
std::string libraries();

/// Throws RunError if the driver does not answer.
CudaDevice describe_device(int device);

/// Throws InputError unless this process sees `device` and it can run our kernels.
void require_device(int device);

}  // namespace fedit::cuda
