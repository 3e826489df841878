// tensor/cuda_stub/cuda_backend.cpp: stands where the CUDA back end would be in a build without it.
#include "fedit/core/error.h"
#include "fedit/tensor/cuda_devices.h"

namespace fedit {

std::unique_ptr<Backend> make_cuda_backend(int device, CudaErrors, int) {
    CudaDevices found = find_cuda_devices();
    throw InputError({.what = std::move(found.trouble),
                      .where = "--device cuda (device " + std::to_string(device) + ")",
                      .remedy = std::move(found.remedy)});
}

std::unique_ptr<Backend> make_cuda_backend(int device, int threads) {
    return make_cuda_backend(device, CudaErrors::late, threads);
}

}  // namespace fedit
