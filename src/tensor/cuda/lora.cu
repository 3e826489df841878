// tensor/cuda/lora.cu: adapters on a stream.
#include "tensor/cuda/warp.cuh"

#include "tensor/cuda/lora.cuh"
#include "tensor/cuda/lora.h"
#include "tensor/cuda/stream_launch.cuh"

namespace fedit::cuda {

void lora(TensorView y, TensorView s, TensorView x, const DeviceSlots& slots,
          const DeviceDropout& dropout, void* scratch, cudaStream_t stream) {
    launch_lora(StreamLaunch(stream, "lora"), y, s, x, slots, dropout,
                static_cast<float*>(scratch));
}

void lora_backward(TensorView dx, TensorView ds, TensorView dy, TensorView s, TensorView x,
                   const DeviceSlots& slots, const DeviceDropout& dropout, void* scratch,
                   cudaStream_t stream) {
    launch_lora_backward(StreamLaunch(stream, "lora_backward"), dx, ds, dy, s, x, slots, dropout,
                         static_cast<float*>(scratch));
}

}  // namespace fedit::cuda
