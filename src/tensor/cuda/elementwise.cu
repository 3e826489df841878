// tensor/cuda/elementwise.cu: SwiGLU, RoPE, sums and conversions of matrices, on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/elementwise.cuh"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void swiglu(TensorView y, TensorView gate, TensorView up, cudaStream_t stream) {
    launch_swiglu(StreamLaunch(stream, "swiglu"), y, gate, up);
}

void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                     TensorView up, cudaStream_t stream) {
    launch_swiglu_backward(StreamLaunch(stream, "swiglu_backward"), dgate, dup, dy, gate, up);
}

void rope(TensorView x, std::int64_t heads, const DeviceRotary& rotary, bool inverse,
          cudaStream_t stream) {
    launch_rope(StreamLaunch(stream, "rope"), x, heads, rotary, inverse);
}

void add(TensorView y, TensorView x, cudaStream_t stream) {
    launch_add(StreamLaunch(stream, "add"), y, x);
}

void convert(TensorView y, TensorView x, cudaStream_t stream) {
    launch_convert(StreamLaunch(stream, "convert"), y, x);
}

}  // namespace fedit::cuda
