// tensor/cuda/check.cpp: the messages of failed CUDA calls.
#include "tensor/cuda/check.h"

#include <fmt/format.h>

#include "fedit/core/error.h"

namespace fedit::cuda {

namespace {

/// What to do about `status`; after it has been cleared, if it can be.
std::string remedy_for(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return "another process may hold memory of this GPU (nvidia-smi shows it); else give a "
                   "smaller --micro-batch-size or --cutoff-len, --recompute layer, or fewer ranks "
                   "a GPU";
        case cudaErrorNoKernelImageForDevice:
            return "build fedit for this GPU: -DCMAKE_CUDA_ARCHITECTURES=<its compute capability>";
        case cudaErrorUnsupportedPtxVersion:
            return "the driver is older than the CUDA that fedit was built with: update it, or "
                   "build for this GPU with -DCMAKE_CUDA_ARCHITECTURES=<its compute capability>";
        case cudaErrorNotSupported:
        case cudaErrorMapBufferObjectFailed:
            return "if ranks share this GPU: the system may not let processes share its memory "
                   "(CUDA IPC, as in some containers), so start one rank for each GPU";
        case cudaErrorECCUncorrectable:
        case cudaErrorHardwareStackError:
            return "the GPU is faulty: leave it out (CUDA_VISIBLE_DEVICES) and tell its owner";
        case cudaErrorDevicesUnavailable:
            return "another process has this GPU for itself: choose another (CUDA_VISIBLE_DEVICES)";
        default:
            return "if a second try fails as well, report it with the command and `fedit doctor`";
    }
}

}  // namespace

void check(cudaError_t status, std::string_view action) {
    if (status == cudaSuccess) return;
    cudaGetLastError();
    throw RunError({.what = fmt::format("{}: {}", action, cudaGetErrorString(status)),
                    .where = fmt::format("CUDA, {}", cudaGetErrorName(status)),
                    .remedy = remedy_for(status)});
}

void check(cublasStatus_t status, std::string_view action) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    cudaGetLastError();
    throw RunError(
        {.what = fmt::format("{}: {}", action, cublasLtGetStatusString(status)),
         .where = fmt::format("cuBLASLt, {}", cublasLtGetStatusName(status)),
         .remedy = "if a second try fails as well, report it with the command and `fedit doctor`"});
}

}  // namespace fedit::cuda
