// tensor/cuda/picked_rows.cuh: kernels over rows picked by number: embedding and its backward,
// gather and scatter.
#pragma once

#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/token_groups.h"

namespace fedit::cuda {

/// y[t] = x[from[t]].
template <class Y, class X, class Index, int N>
__global__ void copy_rows_kernel(Rows<Y> y, Rows<X> x, const Index* from, std::int64_t cols,
                                 unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float v[N];
    load(v, x.at(from[t], j));
    store(y.at(t, j), v);
}

/// y[to[t]] += x[t]; no two rows have the same target.
template <class Y, class X, int N>
__global__ void scatter_add_rows_kernel(Rows<Y> y, Rows<X> x, const std::int64_t* to,
                                        std::int64_t cols, unsigned blocks) {
    const auto [t, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float sum[N], v[N];
    load(sum, y.at(to[t], j));
    load(v, x.at(t, j));
    for (int i = 0; i < N; ++i) sum[i] += v[i];
    store(y.at(to[t], j), sum);
}

/// dtable[token] += each row of that token in turn. A thread owns its columns of a token's row.
template <class X, int N>
__global__ void embedding_backward_kernel(Rows<float> dtable, Rows<X> dy, DeviceTokenGroups groups,
                                          std::int64_t cols, unsigned blocks) {
    const auto [group, j] = vector_of_thread<N>(blocks);
    if (j >= cols) return;
    float sum[N], v[N];
    load(sum, dtable.at(groups.token[group], j));
    const std::int64_t end = groups.begin[group + 1];
#pragma unroll 4
    for (std::int64_t k = groups.begin[group]; k < end; ++k) {
        load(v, dy.at(groups.order[k], j));
        for (int i = 0; i < N; ++i) sum[i] += v[i];
    }
    store(dtable.at(groups.token[group], j), sum);
}

// ---- launches

template <class Launch, class Index>
void launch_copy_rows(const Launch& launch, TensorView y, TensorView x, const Index* from) {
    if (y.rows == 0) return;
    choose_pair(y, x, [&](auto to_type, auto from_type, auto n) {
        using Y = decltype(to_type);
        using X = decltype(from_type);
        const RowBlocks blocks(y.cols / n());
        launch(blocks.grid(y.rows), copy_rows_kernel<Y, X, Index, n()>, rows<Y>(y), rows<X>(x),
               from, y.cols, blocks.count);
    });
}

template <class Launch>
void launch_scatter_add_rows(const Launch& launch, TensorView y, TensorView x,
                             const std::int64_t* to) {
    if (x.rows == 0) return;
    choose_pair(y, x, [&](auto to_type, auto from_type, auto n) {
        using Y = decltype(to_type);
        using X = decltype(from_type);
        const RowBlocks blocks(x.cols / n());
        launch(blocks.grid(x.rows), scatter_add_rows_kernel<Y, X, n()>, rows<Y>(y), rows<X>(x), to,
               x.cols, blocks.count);
    });
}

template <class Launch>
void launch_embedding_backward(const Launch& launch, TensorView dtable, TensorView dy,
                               const DeviceTokenGroups& groups) {
    if (groups.count == 0) return;
    choose({dy, dtable}, [&](auto type, auto n) {
        using X = decltype(type);
        const RowBlocks blocks(dy.cols / n());
        launch(blocks.grid(groups.count), embedding_backward_kernel<X, n()>, rows<float>(dtable),
               rows<X>(dy), groups, dy.cols, blocks.count);
    });
}

}  // namespace fedit::cuda
