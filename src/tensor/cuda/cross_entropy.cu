// tensor/cuda/cross_entropy.cu: the loss of a chunk of logits, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/cross_entropy.cuh"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void cross_entropy(double* loss, std::int32_t* best, TensorView logits, const std::int32_t* targets,
                   const float* weight, Dtype gradient, cudaStream_t stream) {
    launch_cross_entropy(StreamLaunch(stream, "cross_entropy"), loss, best, logits, targets, weight,
                         gradient);
}

}  // namespace fedit::cuda
