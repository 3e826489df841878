// tensor/cuda/norm.cuh: what the kernels of RMSNorm share.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// 1 / sqrt(mean square + eps).
__device__ inline float inverse_rms(float sum_of_squares, std::int64_t count, float eps) {
    return 1.0F / sqrtf(sum_of_squares / static_cast<float>(count) + eps);
}

}  // namespace fedit::cuda
