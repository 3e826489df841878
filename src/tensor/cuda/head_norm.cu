// tensor/cuda/head_norm.cu: RMSNorm in each head of a row, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/head_norm.cuh"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain, float eps,
                   cudaStream_t stream) {
    launch_head_rms_norm(StreamLaunch(stream, "head_rms_norm"), y, x, heads, gain, eps);
}

void head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x, std::int64_t heads,
                            const float* gain, float eps, cudaStream_t stream) {
    launch_head_rms_norm_backward(StreamLaunch(stream, "head_rms_norm_backward"), dx, dy, x, heads,
                                  gain, eps);
}

}  // namespace fedit::cuda
