// tensor/cuda_stub/cuda_backend.cpp: stands where the CUDA back end would be in a build without it.
#include "fedit/core/error.h"
#include "fedit/tensor/backend.h"

namespace fedit {

std::unique_ptr<Backend> make_cuda_backend(int device) {
    throw InputError({.what = "this build has no CUDA back end",
                      .where = "--device cuda (device " + std::to_string(device) + ")",
                      .remedy = "use --device cpu, or build fedit with CUDA"});
}

int cuda_device_count() {
    return 0;
}

}  // namespace fedit
