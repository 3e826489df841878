// tensor/cuda/rms_norm.cu: RMSNorm on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rms_norm.cuh"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain, float eps,
              cudaStream_t stream) {
    launch_rms_norm(StreamLaunch(stream, "rms_norm"), y, x, residual, gain, eps);
}

void rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain, float eps,
                       cudaStream_t stream) {
    launch_rms_norm_backward(StreamLaunch(stream, "rms_norm_backward"), dx, dy, x, gain, eps);
}

}  // namespace fedit::cuda
