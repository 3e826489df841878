// tensor/cuda/cross_entropy.cuh: loss, best index and gradient of one chunk of logits, in place. A
// block owns a row.
#pragma once

#include <climits>
#include <cmath>

#include "tensor/cuda/rows.cuh"

namespace fedit::cuda {

/// What is known of a set of logits: the largest and its lowest index, and the sum of
/// exp(logit - largest). Where one is NaN, so is the sum.
struct Softmax {
    float largest = -INFINITY;
    float sum = 0;
    int best = INT_MAX;
    bool has_nan = false;
};

/// exp(x - largest), 0 where both are -Inf.
__device__ inline float exp_below(float x, float largest) {
    return expf(x - (largest == -INFINITY ? 0.0F : largest));
}

/// Adds logits [index, index + N) (-Inf adds nothing) to what a thread knows.
template <int N>
__device__ void take(Softmax& known, const float (&x)[N], int index) {
    const float before = known.largest;
    if (known.best == INT_MAX) known.best = index;  // so that a row of -Inf alone has one
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if (x[i] > known.largest) {
            known.largest = x[i];
            known.best = index + i;
        }
        known.has_nan = known.has_nan || x[i] != x[i];
    }
    known.sum *= exp_below(before, known.largest);
#pragma unroll
    for (int i = 0; i < N; ++i) known.sum += exp_below(x[i], known.largest);
}

/// The largest logit of the block and its lowest index: -1, which is lower than all, where one is
/// NaN. Every thread gets them.
struct Largest {
    float value;
    int index;
};
__device__ inline Largest larger(Largest a, Largest b) {
    return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}
__device__ inline Largest largest_of_block(const Softmax& known) {
    __shared__ SharedArray<float, 32> values;
    __shared__ SharedArray<int, 32> indexes;
    Largest largest = {known.largest, known.best};
    if (known.has_nan) largest = {INFINITY, -1};
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) {
        largest = larger(largest, {shfl_xor(largest.value, mask), shfl_xor(largest.index, mask)});
    }
    if (threadIdx.x % 32 == 0) {
        values[static_cast<int>(threadIdx.x / 32)] = largest.value;
        indexes[static_cast<int>(threadIdx.x / 32)] = largest.index;
    }
    __syncthreads();
    for (int i = 0; i < static_cast<int>(blockDim.x / 32); ++i) {
        largest = larger(largest, {values[i], indexes[i]});
    }
    return largest;
}

/// Replaces a row of logits by weight (softmax - onehot(target)), as G over the row's front.
template <class G, int N>
__device__ void write_gradient(float* logits, std::int64_t vocab, float largest, float factor,
                               std::int32_t target, float weight) {
    auto* const gradient = reinterpret_cast<G*>(logits);
    float x[N];
    for (std::int64_t begin = 0; begin < vocab; begin += std::int64_t{blockDim.x} * N) {
        const std::int64_t j = begin + threadIdx.x * N, count = vocab - j;
        load_part(x, logits + j, count, 0);
        for (int i = 0; i < N; ++i) {
            x[i] = exp_below(x[i], largest) * factor - (j + i == target ? weight : 0.0F);
        }
        // Narrow gradients land on logits of other threads, of this turn or an earlier one.
        if constexpr (sizeof(G) < sizeof(float)) __syncthreads();
        store_part(gradient + j, x, count);
    }
}

template <class G, int N>
__global__ void cross_entropy_kernel(double* loss, std::int32_t* best, Rows<float> logits,
                                     std::int64_t vocab, const std::int32_t* targets,
                                     const float* weights) {
    const std::int64_t row = blockIdx.x;
    float* const own = logits.at(row, 0);
    Softmax known;
    float x[N];
    for (std::int64_t j = threadIdx.x * N; j < vocab; j += std::int64_t{blockDim.x} * N) {
        load_part(x, own + j, vocab - j, -INFINITY);
        take(known, x, static_cast<int>(j));
    }
    const std::int32_t target = targets[row];
    const float aimed_at = own[target];  // before the barriers that gradients come after
    const Largest largest = largest_of_block(known);
    const double total =
        block_sum(static_cast<double>(known.sum * exp_below(known.largest, largest.value)));
    if (threadIdx.x == 0) {
        loss[row] = static_cast<double>(largest.value) - aimed_at + log(total);
        if (best != nullptr) best[row] = largest.index;
    }
    if (weights == nullptr) return;
    const float weight = weights[row], factor = static_cast<float>(weight / total);
    write_gradient<G, N>(own, vocab, largest.value, factor, target, weight);
}

template <class Launch>
void launch_cross_entropy(const Launch& launch, double* loss, std::int32_t* best, TensorView logits,
                          const std::int32_t* targets, const float* weights, Dtype gradient) {
    if (logits.rows == 0) return;
    const auto start = [&](auto type, auto n) {
        using G = decltype(type);
        const std::int64_t vectors = ceil_div(logits.cols, n());
        const Grid grid{.x = logits.rows, .threads = 2 * row_threads(ceil_div(vectors, 2))};
        launch(grid, cross_entropy_kernel<G, n()>, loss, best, rows<float>(logits), logits.cols,
               targets, weights);
    };
    // Rows must begin aligned; their last vector may be a part of one.
    const TensorView whole{logits.data, logits.dtype, logits.rows, 8, logits.stride};
    const bool aligned = fits(whole, 8);
    if (gradient == Dtype::fp32) {
        aligned ? start(float(), Width<8>()) : start(float(), Width<1>());
    } else {
        aligned ? start(Bf16(), Width<8>()) : start(Bf16(), Width<1>());
    }
}

}  // namespace fedit::cuda
