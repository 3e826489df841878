// tensor/cuda/swiglu.cuh: SwiGLU of one element, forward and backward.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// Of an activation that is kept as T: what is rounded to bf16 needs no more than a few units of
/// fp32's last place.
template <class T>
__device__ float sigmoid(float x) {
    if constexpr (std::is_same_v<T, Bf16>) {
        return reciprocal_approximate(1.0F + exp2_approximate(-log2_e * x));
    } else {
        return 1.0F / (1.0F + expf(-x));
    }
}

/// silu(gate) up, with s = sigmoid(gate).
__device__ inline float gated(float gate, float up, float s) {
    return up * (gate * s);
}

struct GateAndUp {
    float gate, up;
};

/// dgate = dy up s (1 + gate (1 - s)), dup = dy gate s.
__device__ inline GateAndUp gated_backward(float dy, float gate, float up, float s) {
    return {dy * up * (s * (1.0F + gate * (1.0F - s))), dy * (gate * s)};
}

}  // namespace fedit::cuda
