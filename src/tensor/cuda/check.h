// tensor/cuda/check.h: turns a status of CUDA or cuBLASLt into an error in our form.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <string_view>

namespace fedit::cuda {

/// Throws RunError if `status` is not success: `action`, then CUDA's own words. What a kernel does
/// wrong shows at a later call, so after a launch `check(cudaGetLastError(), ...)` finds only
/// launches that could not begin. An error that does not spoil the process is cleared.
void check(cudaError_t status, std::string_view action);
void check(cublasStatus_t status, std::string_view action);

}  // namespace fedit::cuda
