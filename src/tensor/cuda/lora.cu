// tensor/cuda/lora.cu: adapters on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/lora.cuh"
#include "tensor/cuda/lora.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void lora(std::span<const DeviceLayer> layers, TensorView x, const DeviceDropout& dropout,
          const DeviceRotary& rotary, void* scratch, cudaStream_t stream) {
    launch_lora(StreamLaunch(stream, "lora"), layers, x, dropout, rotary,
                static_cast<float*>(scratch));
}

void lora_backward(TensorView dx, TensorView ds, std::span<const DeviceLayer> layers, TensorView x,
                   const DeviceDropout& dropout, void* scratch, cudaStream_t stream) {
    launch_lora_backward(StreamLaunch(stream, "lora_backward"), dx, ds, layers, x, dropout,
                         static_cast<float*>(scratch));
}

void lora_swiglu(TensorView act, std::span<const DeviceLayer> gate_up, TensorView x,
                 const DeviceDropout& dropout, void* scratch, cudaStream_t stream) {
    launch_lora_swiglu(StreamLaunch(stream, "lora_swiglu"), act, gate_up, x, dropout,
                       static_cast<float*>(scratch));
}

void lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act, TensorView ds,
                          const DeviceLayer& down, TensorView act, TensorView gate, TensorView up,
                          const DeviceDropout& dropout, void* scratch, cudaStream_t stream) {
    launch_lora_swiglu_backward(StreamLaunch(stream, "lora_swiglu_backward"), dgate, dup, d_act, ds,
                                down, act, gate, up, dropout, static_cast<float*>(scratch));
}

}  // namespace fedit::cuda
