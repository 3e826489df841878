// tensor/cuda/attention.cu: attention on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/attention.cuh"
#include "tensor/cuda/attention.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
               const AttentionShape& shape, const DeviceSequences& sequences, cudaStream_t stream) {
    launch_attention(StreamLaunch(stream, "attention"), out, lse, q, k, v, shape, sequences);
}

void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                        TensorView out, const float* lse, TensorView q, TensorView k, TensorView v,
                        const AttentionShape& shape, const DeviceSequences& sequences,
                        const DeviceRotary& rotary, float* scratch, cudaStream_t stream) {
    const AttentionViews views{
        .q = q, .k = k, .v = v, .out = out, .dout = dout, .dq = dq, .dk = dk, .dv = dv};
    launch_attention_backward(StreamLaunch(stream, "attention_backward"), views, lse, scratch,
                              shape, sequences, rotary);
}

}  // namespace fedit::cuda
