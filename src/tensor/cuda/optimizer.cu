// tensor/cuda/optimizer.cu: AdamW, SGD, scaling and filling of flat vectors, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/optimizer.cuh"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void adamw(float* x, const float* g, float* m, float* v, std::int64_t n, const AdamWStep& step,
           cudaStream_t stream) {
    launch_adamw(StreamLaunch(stream, "adamw"), x, g, m, v, n, step);
}

void sgd(float* x, const float* g, std::int64_t n, float lr, float weight_decay,
         cudaStream_t stream) {
    launch_sgd(StreamLaunch(stream, "sgd"), x, g, n, lr, weight_decay);
}

void scale(float* x, std::int64_t n, float factor, cudaStream_t stream) {
    launch_scale(StreamLaunch(stream, "scale"), x, n, factor);
}

void fill(float* x, std::int64_t n, float value, cudaStream_t stream) {
    launch_fill(StreamLaunch(stream, "fill"), x, n, value);
}

}  // namespace fedit::cuda
