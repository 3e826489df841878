// tensor/cuda/lora.h: adapters of several cohort members on a stream (fedit/tensor/backend.h says
// what is computed). A member's bits depend on its own rows, factors and key alone.
#pragma once

#include <cuda_runtime.h>

#include <span>

#include "fedit/tensor/backend.h"
#include "tensor/cuda/rotary.h"
#include "tensor/cuda/slots.h"

namespace fedit::cuda {

/// For each layer: s = drop(x) A^T; y += scale s B^T; y turned if it has turned_heads. x, y, s:
/// fp32 or bf16 alike; bf16 whose rows hold whole, 16-byte aligned vectors runs on tensor cores (A
/// and B rounded to bf16), all else on plain kernels with fp32 arithmetic. On tensor cores x is
/// read once for every 16 ranks of up to three layers (32 of one alone), y for every 64. `scratch`:
/// lora_scratch_bytes(...) bytes, 16-byte aligned. Throws RunError if a launch fails.
void lora(std::span<const DeviceLayer> layers, TensorView x, const DeviceDropout& dropout,
          const DeviceRotary& rotary, void* scratch, cudaStream_t stream);

/// For each layer, whose y is dy: ds = scale dy B; db += scale dy^T s; da += ds^T drop(x); dx +=
/// drop'(ds A) unless dx.data is null. On tensor cores dy is read once for every 32 ranks, x and dx
/// once for every 16 ranks of up to three layers (64 of one alone). `scratch`:
/// lora_backward_scratch_bytes(...) bytes, 16-byte aligned.
void lora_backward(TensorView dx, TensorView ds, std::span<const DeviceLayer> layers, TensorView x,
                   const DeviceDropout& dropout, void* scratch, cudaStream_t stream);

/// lora() of two layers, then act = silu(gate) up of their outputs: one pass on tensor cores for
/// ranks up to 32. `scratch`: lora_scratch_bytes(...) bytes, 16-byte aligned.
void lora_swiglu(TensorView act, std::span<const DeviceLayer> gate_up, TensorView x,
                 const DeviceDropout& dropout, void* scratch, cudaStream_t stream);

/// lora_backward() of `down`, whose input is act and whose dx is d_act, then swiglu_backward(): on
/// tensor cores, for ranks up to 32 and in place, without touching act or writing d_act. act is
/// scratch. `scratch`: lora_backward_scratch_bytes(...) bytes, 16-byte aligned.
void lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act, TensorView ds,
                          const DeviceLayer& down, TensorView act, TensorView gate, TensorView up,
                          const DeviceDropout& dropout, void* scratch, cudaStream_t stream);

}  // namespace fedit::cuda
