// tensor/cuda/column_sums.cu: gradients of biases and of norms' gains, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/column_sums.cuh"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void rms_norm_dgain(float* dgain, std::int64_t width, TensorView dy, TensorView x, float eps,
                    float* scratch, cudaStream_t stream) {
    launch_rms_norm_dgain(StreamLaunch(stream, "rms_norm_dgain"), dgain, width, dy, x, eps,
                          scratch);
}

void column_sums(float* sum, TensorView x, float* scratch, cudaStream_t stream) {
    launch_column_sums(StreamLaunch(stream, "column_sums"), sum, x, scratch);
}

}  // namespace fedit::cuda
