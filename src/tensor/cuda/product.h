// tensor/cuda/product.h: one matrix product as cuBLASLt is told of it, and its descriptors.
//
// cuBLASLt computes D = op(A) op(B) (+ D) on column-major matrices. A row-major (rows x cols)
// matrix with a stride is the column-major (cols x rows) matrix with that leading dimension, so Y =
// X W^T is asked for as Y^T = W X^T.
#pragma once

#include <compare>
#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/cuda/handles.h"

namespace fedit::cuda {

enum class Operand : std::uint8_t { plain, transposed };
enum class Result : std::uint8_t { write, add };

/// All that a plan depends on. D is (m x n), k the depth; leading dimensions in elements.
struct Product {
    Operand op_a = Operand::plain, op_b = Operand::plain;
    std::int64_t m = 0, n = 0, k = 0;
    std::int64_t lda = 0, ldb = 0, ldd = 0;
    Dtype operands = Dtype::fp32, output = Dtype::fp32;
    Result result = Result::write;
    int alignment = 16;  ///< bytes that divide the three addresses; 16 at most

    auto operator<=>(const Product&) const = default;
};

/// A product and where its matrices lie.
struct ProductCall {
    Product product;
    const void* a = nullptr;
    const void* b = nullptr;
    void* d = nullptr;
};

/// y (rows x out) = x (rows x in) w^T (+ y), w (out x in).
ProductCall forward(TensorView y, TensorView x, TensorView w, Result result);
/// dx (rows x in) = dy (rows x out) w (+ dx).
ProductCall input_gradient(TensorView dx, TensorView dy, TensorView w, Result result);
/// dw (out x in, fp32) += dy^T x.
ProductCall weight_gradient(TensorView dw, TensorView dy, TensorView x);

/// The longest chain of additions in an fp32 product. A chain's error grows with its length: over a
/// vocabulary of 600,000 it was 20 times what tests allow, in parts of this length a third of it.
inline constexpr std::int64_t longest_chain = 4096;

/// Terms that one call of cuBLASLt sums for an element: of a deep product of fp32 operands into
/// fp32 a part, else all. A bf16 operand's own rounding hides what a chain adds.
std::int64_t terms_at_once(const Product& product);

/// Terms [begin, begin + terms_at_once()) of a product, or what is left of it from `begin` on, a
/// multiple of that. All parts but the first add to D.
ProductCall part_of_depth(const ProductCall& call, std::int64_t begin);

/// The descriptors of a product. They are made on the host alone: no device is needed.
class ProductDescription {
public:
    explicit ProductDescription(const Product& product);

    cublasLtMatmulDesc_t operation() const { return operation_.get(); }
    cublasLtMatrixLayout_t a() const { return a_.get(); }
    cublasLtMatrixLayout_t b() const { return b_.get(); }
    cublasLtMatrixLayout_t d() const { return d_.get(); }  ///< also of C, which is D

private:
    LtOperation operation_;
    LtLayout a_, b_, d_;
};

}  // namespace fedit::cuda
