// tensor/cuda/swiglu.cuh: SwiGLU of one element, forward and backward.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

__device__ inline float sigmoid(float x) {
    return 1.0F / (1.0F + expf(-x));
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
