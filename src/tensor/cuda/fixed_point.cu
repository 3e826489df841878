// tensor/cuda/fixed_point.cu: the order-free sum of updates and its screen, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/fixed_point.cuh"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void accumulate_fixed(std::uint64_t* sum, const float* x, const float* x0, double weight,
                      std::int64_t n, cudaStream_t stream) {
    launch_accumulate_fixed(StreamLaunch(stream, "accumulate_fixed"), sum, x, x0, weight, n);
}

void first_beyond(std::int64_t* place, const float* x, const float* x0, std::int64_t n,
                  double bound, cudaStream_t stream) {
    launch_first_beyond(StreamLaunch(stream, "first_beyond"), place, x, x0, n, bound);
}

}  // namespace fedit::cuda
