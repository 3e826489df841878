// tensor/cpu/blocked_products.h: products with weights in oneDNN's blocks, by its AVX-512 kernels.
// A row's bits depend on nothing but the row and the weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "fedit/tensor/tensor.h"

namespace fedit::cpu {

/// oneDNN's version: "oneDNN 2.6.3".
std::string onednn_name();
/// oneDNN's kernel for blocked weights on this CPU; "" where it has none that is fast.
std::string blocked_kernel(Dtype dtype);

/// Weights (depth x cols) in blocks, and products with them. One caller at a time.
class BlockedProducts {
public:
    explicit BlockedProducts(int threads);
    ~BlockedProducts();
    BlockedProducts(const BlockedProducts&) = delete;
    BlockedProducts& operator=(const BlockedProducts&) = delete;

    static std::size_t packed_bytes(Dtype dtype, std::int64_t depth, std::int64_t cols);
    /// Packs `values`, dense fp32, as b and as b^T.
    void pack(std::byte* b, std::byte* b_transposed, Dtype dtype, TensorView values);
    /// y = x b + bias (+ y if accumulate); x and y fp32, x rounded to bf16 where b is. Throws
    /// RunError where oneDNN fails.
    void multiply(TensorView y, TensorView x, Dtype dtype, const std::byte* b, const float* bias,
                  bool accumulate);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit::cpu
