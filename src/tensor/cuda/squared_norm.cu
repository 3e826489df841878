// tensor/cuda/squared_norm.cu: the sum of squares, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/squared_norm.cuh"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void squared_norm(double* sum, const float* x, const float* x0, std::int64_t n, double* scratch,
                  cudaStream_t stream) {
    launch_squared_norm(StreamLaunch(stream, "squared_norm"), sum, x, x0, n, scratch);
}

}  // namespace fedit::cuda
