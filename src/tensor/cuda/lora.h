// tensor/cuda/lora.h: adapters of several cohort members on a stream (fedit/tensor/backend.h says
// what is computed). A member's bits depend on its own rows, factors and key alone.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "fedit/tensor/backend.h"
#include "tensor/cuda/slots.h"

namespace fedit::cuda {

/// s = drop(x) A^T; y += scale s B^T. x, y, s: fp32 or bf16 alike; bf16 whose rows hold whole,
/// 16-byte aligned vectors runs on tensor cores (A and B rounded to bf16), all else on plain
/// kernels with fp32 arithmetic. On tensor cores x is read once for every 32 ranks, y for every
/// 64. `scratch`: lora_scratch_bytes(...) bytes, 16-byte aligned. Throws RunError if a launch
/// fails.
void lora(TensorView y, TensorView s, TensorView x, const DeviceSlots& slots,
          const DeviceDropout& dropout, void* scratch, cudaStream_t stream);

/// ds = scale dy B; db += scale dy^T s; da += ds^T drop(x); dx += drop'(ds A) unless dx.data is
/// null. On tensor cores dy is read once for every 32 ranks, x and dx for every 64. `scratch`:
/// lora_backward_scratch_bytes(...) bytes, 16-byte aligned.
void lora_backward(TensorView dx, TensorView ds, TensorView dy, TensorView s, TensorView x,
                   const DeviceSlots& slots, const DeviceDropout& dropout, void* scratch,
                   cudaStream_t stream);

}  // namespace fedit::cuda
