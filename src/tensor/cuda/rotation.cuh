// tensor/cuda/rotation.cuh: how a rotary position turns the halves of a head.
#pragma once

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// Turns (a[i], b[i]) by the angles whose cosines and sines these are.
template <int N>
__device__ void turn(float (&a)[N], float (&b)[N], const float (&cosine)[N],
                     const float (&sine)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const float u = a[i];
        a[i] = u * cosine[i] - b[i] * sine[i];
        b[i] = b[i] * cosine[i] + u * sine[i];
    }
}

}  // namespace fedit::cuda
