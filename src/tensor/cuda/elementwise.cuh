// tensor/cuda/elementwise.cuh: kernels that give each element (or pair of halves) to one thread:
// SwiGLU, RoPE, sums and conversions of matrices.
#pragma once

#include "tensor/cuda/rotary.h"
#include "tensor/cuda/rotation.cuh"
#include "tensor/cuda/swiglu.cuh"

namespace fedit::cuda {

/// y = silu(gate) up.
template <class T, int N>
__global__ void swiglu_kernel(Rows<T> y, Rows<T> gate, Rows<T> up, std::int64_t cols,
                              unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float g[N], u[N];
    load(g, gate.at(t, j));
    load(u, up.at(t, j));
    for (int i = 0; i < N; ++i) u[i] = gated(g[i], u[i], sigmoid<T>(g[i]));
    store(y.at(t, j), u);
}

/// dgate and dup, the gradient through y = silu(gate) up.
template <class T, int N>
__global__ void swiglu_backward_kernel(Rows<T> dgate, Rows<T> dup, Rows<T> dy, Rows<T> gate,
                                       Rows<T> up, std::int64_t cols, unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float g[N], u[N], slope[N];
    load(g, gate.at(t, j));
    load(u, up.at(t, j));
    load(slope, dy.at(t, j));
    for (int i = 0; i < N; ++i) {
        const GateAndUp d = gated_backward(slope[i], g[i], u[i], sigmoid<T>(g[i]));
        g[i] = d.gate;
        u[i] = d.up;
    }
    store(dgate.at(t, j), g);
    store(dup.at(t, j), u);
}

/// Rotates (a, b), the halves of each head, by the angle of the row's position; `sign` -1 turns
/// back. Threads run over the low halves of all heads.
template <class T, int N>
__global__ void rope_kernel(Rows<T> x, std::int64_t half, std::int64_t columns, DeviceRotary rotary,
                            float sign, unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= columns) return;
    // In 32 bits: a division in 64 would be half of a thread's instructions.
    const unsigned head = static_cast<unsigned>(j) / static_cast<unsigned>(half);
    const std::int64_t i0 = j - head * half, low = 2 * head * half + i0;
    const float* const row = rotary.table + std::int64_t{rotary.positions[t]} * 2 * half + i0;
    float a[N], b[N], cosine[N], sine[N];
    load(a, x.at(t, low));
    load(b, x.at(t, low + half));
    load(cosine, row);
    load(sine, row + half);
    for (int i = 0; i < N; ++i) sine[i] *= sign;
    turn(a, b, cosine, sine);
    store(x.at(t, low), a);
    store(x.at(t, low + half), b);
}

/// y += x.
template <class Y, class X, int N>
__global__ void add_kernel(Rows<Y> y, Rows<X> x, std::int64_t cols, unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float sum[N], v[N];
    load(sum, y.at(t, j));
    load(v, x.at(t, j));
    for (int i = 0; i < N; ++i) sum[i] += v[i];
    store(y.at(t, j), sum);
}

/// y = x.
template <class Y, class X, int N>
__global__ void convert_kernel(Rows<Y> y, Rows<X> x, std::int64_t cols, unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float v[N];
    load(v, x.at(t, j));
    store(y.at(t, j), v);
}

// ---- launches

template <class Launch>
void launch_swiglu(const Launch& launch, TensorView y, TensorView gate, TensorView up) {
    if (y.rows == 0) return;
    choose({gate, up, y}, [&](auto type, auto n) {
        using T = decltype(type);
        const RowBlocks blocks(y.cols / n());
        launch(blocks.grid(y.rows), swiglu_kernel<T, n()>, rows<T>(y), rows<T>(gate), rows<T>(up),
               y.cols, blocks.count);
    });
}

template <class Launch>
void launch_swiglu_backward(const Launch& launch, TensorView dgate, TensorView dup, TensorView dy,
                            TensorView gate, TensorView up) {
    if (dy.rows == 0) return;
    choose({gate, up, dy, dgate, dup}, [&](auto type, auto n) {
        using T = decltype(type);
        const RowBlocks blocks(dy.cols / n());
        launch(blocks.grid(dy.rows), swiglu_backward_kernel<T, n()>, rows<T>(dgate), rows<T>(dup),
               rows<T>(dy), rows<T>(gate), rows<T>(up), dy.cols, blocks.count);
    });
}

template <class Launch>
void launch_rope(const Launch& launch, TensorView x, std::int64_t heads, const DeviceRotary& rotary,
                 bool inverse) {
    if (x.rows == 0) return;
    const std::int64_t half = x.cols / heads / 2, columns = heads * half;
    const float sign = inverse ? -1.0F : 1.0F;
    const TensorView halves{x.data, x.dtype, x.rows, half, x.stride};
    choose({halves, vector_view(rotary.table, half)}, [&](auto type, auto n) {
        using T = decltype(type);
        const RowBlocks blocks(columns / n());
        launch(blocks.grid(x.rows), rope_kernel<T, n()>, rows<T>(x), half, columns, rotary, sign,
               blocks.count);
    });
}

template <class Launch>
void launch_add(const Launch& launch, TensorView y, TensorView x) {
    if (y.rows == 0) return;
    choose_pair(y, x, [&](auto to, auto from, auto n) {
        using Y = decltype(to);
        using X = decltype(from);
        const RowBlocks blocks(y.cols / n());
        launch(blocks.grid(y.rows), add_kernel<Y, X, n()>, rows<Y>(y), rows<X>(x), y.cols,
               blocks.count);
    });
}

template <class Launch>
void launch_convert(const Launch& launch, TensorView y, TensorView x) {
    if (y.rows == 0) return;
    choose_pair(y, x, [&](auto to, auto from, auto n) {
        using Y = decltype(to);
        using X = decltype(from);
        const RowBlocks blocks(y.cols / n());
        launch(blocks.grid(y.rows), convert_kernel<Y, X, n()>, rows<Y>(y), rows<X>(x), y.cols,
               blocks.count);
    });
}

}  // namespace fedit::cuda
