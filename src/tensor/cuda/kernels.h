// tensor/cuda/kernels.h: the CUDA back end's kernels, as functions that put their work on a stream.
//
// All pointers are device memory. The semantics are those of fedit/tensor/backend.h; shapes have
// been checked there (tensor/check.h). Activations are fp32 or bf16 by TensorView::dtype, the same
// in all operands of a call unless said otherwise; gains, flat vectors and scratch are fp32. Sums
// are in fp32 or double, in an order that is a function of the shape alone; no atomics on floats.
// Rows that are 16-byte aligned and hold whole 16-byte vectors are read so, others an element at a
// time. Nothing is launched for zero rows. Each throws RunError if a launch fails.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/adamw_step.h"
#include "tensor/cuda/rotary.h"
#include "tensor/cuda/scratch.h"
#include "tensor/cuda/token_groups.h"

namespace fedit::cuda {

// ---- norms (RMSNorm, arXiv 1910.07467)

/// If `residual.data`: x += residual first, rounded to x's type. y = gain * x / rms(x) per row.
void rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain, float eps,
              cudaStream_t stream);
/// dx += the gradient through y = rms_norm(x).
void rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain, float eps,
                       cudaStream_t stream);
/// y = gain * x / rms(x) in each of a row's `heads` equal parts; gain (x.cols / heads). y may be
/// x's memory.
void head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain, float eps,
                   cudaStream_t stream);
/// Writes dx; it may be dy's memory.
void head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x, std::int64_t heads,
                            const float* gain, float eps, cudaStream_t stream);
/// dgain[j] += sum over the rows, and over their parts of `width` columns, of dy_j x_j / rms(x).
/// `scratch`: rms_norm_dgain_scratch(x.rows, x.cols, width) floats.
void rms_norm_dgain(float* dgain, std::int64_t width, TensorView dy, TensorView x, float eps,
                    float* scratch, cudaStream_t stream);

// ---- elementwise work on rows

/// Rotates each head's halves (i, i + half) in place (RoPE, arXiv 2104.09864). `inverse`: the
/// backward.
void rope(TensorView x, std::int64_t heads, const DeviceRotary& rotary, bool inverse,
          cudaStream_t stream);
/// y = silu(gate) * up.
void swiglu(TensorView y, TensorView gate, TensorView up, cudaStream_t stream);
/// Writes dgate and dup; they may be the memory of gate and up.
void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                     TensorView up, cudaStream_t stream);
/// y += x. Each may be fp32 or bf16; the sum is made in fp32.
void add(TensorView y, TensorView x, cudaStream_t stream);
/// y = x. Each may be fp32 or bf16; to bf16 it rounds to nearest even, NaN stays NaN.
void convert(TensorView y, TensorView x, cudaStream_t stream);

// ---- rows picked by number

/// y[t] = table[tokens[t]]. y and table may be fp32 or bf16, each its own.
void embedding(TensorView y, TensorView table, const std::int32_t* tokens, cudaStream_t stream);
/// dtable[tokens[t]] += dy[t] in the order of t: the bits of the CPU's loop. dtable is fp32.
void embedding_backward(TensorView dtable, TensorView dy, const DeviceTokenGroups& groups,
                        cudaStream_t stream);
/// y[i] = x[rows[i]]. y and x may be fp32 or bf16, each its own.
void gather_rows(TensorView y, TensorView x, const std::int64_t* rows, cudaStream_t stream);
/// y[rows[i]] += x[i]; rows are distinct.
void scatter_add_rows(TensorView y, TensorView x, const std::int64_t* rows, cudaStream_t stream);

// ---- loss

/// Next-token cross-entropy of one chunk of fp32 logits (rows x vocab), a labelled row each:
/// loss[i] = -log softmax(logits_i)[targets[i]], in double. `best`, unless null: the largest
/// logit's index, the lowest of equals; -1 where one is NaN. Unless `weight` is null, logits become
/// weight[i] (softmax - onehot(target)): as fp32 in place, or as bf16 over the front of each row;
/// gradient_view (tensor/cuda/scratch.h) is where they lie.
void cross_entropy(double* loss, std::int32_t* best, TensorView logits, const std::int32_t* targets,
                   const float* weight, Dtype gradient, cudaStream_t stream);
// ---- sums over rows

/// sum[j] += the column sums of x, for a bias that trains. `scratch`: column_sums_scratch(x.rows,
/// x.cols) floats.
void column_sums(float* sum, TensorView x, float* scratch, cudaStream_t stream);

// ---- flat fp32 vectors of n elements

/// One AdamW step; the bits are the CPU back end's.
void adamw(float* x, const float* g, float* m, float* v, std::int64_t n, const AdamWStep& step,
           cudaStream_t stream);
/// x -= lr * (g + weight_decay * x); the bits are the CPU back end's.
void sgd(float* x, const float* g, std::int64_t n, float lr, float weight_decay,
         cudaStream_t stream);
void scale(float* x, std::int64_t n, float factor, cudaStream_t stream);
void fill(float* x, std::int64_t n, float value, cudaStream_t stream);
/// *sum = the sum of the squares of x - x0 (x0 null: zeros) in double; the bits are the CPU back
/// end's. `scratch`: squared_norm_scratch(n) doubles.
void squared_norm(double* sum, const float* x, const float* x0, std::int64_t n, double* scratch,
                  cudaStream_t stream);
/// sum[i] += llrint((x[i] - x0[i]) * weight * 2^52) modulo 2^64, for updates that passed the
/// screen: the bits of OrderFreeSum (federation/aggregate.h) on any machine.
void accumulate_fixed(std::uint64_t* sum, const float* x, const float* x0, double weight,
                      std::int64_t n, cudaStream_t stream);

// ---- screens

/// *place = the lowest i for which not |x[i] - x0[i]| < bound, in double (so also where one is NaN
/// or Inf), or -1. x0 null: zeros.
void first_beyond(std::int64_t* place, const float* x, const float* x0, std::int64_t n,
                  double bound, cudaStream_t stream);

}  // namespace fedit::cuda
