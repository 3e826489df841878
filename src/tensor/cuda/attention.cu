// tensor/cuda/attention.cu: attention on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/attention.cuh"
#include "tensor/cuda/attention.h"
#include "tensor/cuda/attention_hopper.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

namespace {

/// Calls body(launch, tiles): what starts the plain kernels, and what starts those on tiles.
template <class Body>
void on_stream(cudaStream_t stream, std::string_view operation, std::int64_t head_dim,
               const Body& body) {
    const StreamLaunch launch(stream, operation);
    if (HopperAttention::takes(head_dim)) {
        body(launch, HopperAttention(stream, operation));
    } else {
        body(launch, TiledAttention<ByWarps, StreamLaunch>(launch));
    }
}

}  // namespace

void attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
               const AttentionShape& shape, const DeviceSequences& sequences, cudaStream_t stream) {
    on_stream(stream, "attention", shape.head_dim, [&](const auto& launch, const auto& tiles) {
        launch_attention(launch, tiles, out, lse, q, k, v, shape, sequences);
    });
}

void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                        TensorView out, const float* lse, TensorView q, TensorView k, TensorView v,
                        const AttentionShape& shape, const DeviceSequences& sequences,
                        const DeviceRotary& rotary, float* scratch, cudaStream_t stream) {
    const AttentionViews views{
        .q = q, .k = k, .v = v, .out = out, .dout = dout, .dq = dq, .dk = dk, .dv = dv};
    const auto body = [&](const auto& launch, const auto& tiles) {
        launch_attention_backward(launch, tiles, views, lse, scratch, shape, sequences, rotary);
    };
    on_stream(stream, "attention_backward", shape.head_dim, body);
}

}  // namespace fedit::cuda
