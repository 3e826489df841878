// tensor/cuda/attention.h: attention of packed sequences on a stream (fedit/tensor/backend.h says
// what is computed). No atomics: the bits of a sequence depend on that sequence alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "fedit/tensor/backend.h"
#include "tensor/cuda/rotary.h"
#include "tensor/cuda/sequences.h"

namespace fedit::cuda {

/// out, q, k, v: fp32 or bf16 alike, rows may be strided. bf16 with head_dim a multiple of 8, at
/// most 256, and 16-byte aligned rows runs on tensor cores; all else on plain kernels with fp32
/// arithmetic. lse (heads x q.rows), natural logarithm. Throws RunError if a launch fails, and
/// InputError for a head_dim above 256.
void attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
               const AttentionShape& shape, const DeviceSequences& sequences, cudaStream_t stream);

/// Writes dq, dk, dv; dq and dk turned back, if there is a rotary. Keys are the queries' rows.
/// `scratch`: attention_backward_scratch(...) floats.
void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                        TensorView out, const float* lse, TensorView q, TensorView k, TensorView v,
                        const AttentionShape& shape, const DeviceSequences& sequences,
                        const DeviceRotary& rotary, float* scratch, cudaStream_t stream);
constexpr std::int64_t attention_backward_scratch(std::int64_t tokens, std::int64_t heads) {
    return tokens * heads;
}

}  // namespace fedit::cuda
