// tensor/cuda/product.cpp: describes products to cuBLASLt.
#include "tensor/cuda/product.h"

#include <algorithm>
#include <cstddef>
#include <initializer_list>

namespace fedit::cuda {

namespace {

cudaDataType_t to_cuda(Dtype dtype) {
    return dtype == Dtype::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

/// The largest power of two up to 16 that divides all addresses. What lies between two rows shows
/// in the leading dimensions.
int common_alignment(std::initializer_list<const void*> addresses) {
    std::uintptr_t bits = 16;
    for (const void* address : addresses) bits |= reinterpret_cast<std::uintptr_t>(address);
    return static_cast<int>(bits & (~bits + 1));
}

LtLayout make_layout(Dtype dtype, Operand op, std::int64_t rows, std::int64_t cols,
                     std::int64_t ld) {
    if (op == Operand::transposed) std::swap(rows, cols);
    cublasLtMatrixLayout_t layout = nullptr;
    check(cublasLtMatrixLayoutCreate(&layout, to_cuda(dtype), static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(cols), ld),
          "describe a matrix");
    return LtLayout(layout);
}

LtOperation make_operation(const Product& product) {
    // Pedantic fp32 may not be replaced by TF32 or bf16 parts, whatever the environment asks for.
    const cublasComputeType_t compute =
        product.operands == Dtype::fp32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F;
    cublasLtMatmulDesc_t raw = nullptr;
    check(cublasLtMatmulDescCreate(&raw, compute, CUDA_R_32F), "describe a product");
    LtOperation operation(raw);
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, Operand op) {
        const cublasOperation_t value = op == Operand::transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
        check(cublasLtMatmulDescSetAttribute(raw, attribute, &value, sizeof value),
              "describe an operand");
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.op_a);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.op_b);
    return operation;
}

}  // namespace

ProductCall forward(TensorView y, TensorView x, TensorView w, Result result) {
    return {.product = {.op_a = Operand::transposed,
                        .op_b = Operand::plain,
                        .m = w.rows,
                        .n = x.rows,
                        .k = w.cols,
                        .lda = w.stride,
                        .ldb = x.stride,
                        .ldd = y.stride,
                        .operands = w.dtype,
                        .output = y.dtype,
                        .result = result,
                        .alignment = common_alignment({w.data, x.data, y.data})},
            .a = w.data,
            .b = x.data,
            .d = y.data};
}

ProductCall input_gradient(TensorView dx, TensorView dy, TensorView w, Result result) {
    return {.product = {.op_a = Operand::plain,
                        .op_b = Operand::plain,
                        .m = w.cols,
                        .n = dy.rows,
                        .k = w.rows,
                        .lda = w.stride,
                        .ldb = dy.stride,
                        .ldd = dx.stride,
                        .operands = w.dtype,
                        .output = dx.dtype,
                        .result = result,
                        .alignment = common_alignment({w.data, dy.data, dx.data})},
            .a = w.data,
            .b = dy.data,
            .d = dx.data};
}

ProductCall weight_gradient(TensorView dw, TensorView dy, TensorView x) {
    return {.product = {.op_a = Operand::plain,
                        .op_b = Operand::transposed,
                        .m = x.cols,
                        .n = dy.cols,
                        .k = x.rows,
                        .lda = x.stride,
                        .ldb = dy.stride,
                        .ldd = dw.stride,
                        .operands = x.dtype,
                        .output = dw.dtype,
                        .result = Result::add,
                        .alignment = common_alignment({x.data, dy.data, dw.data})},
            .a = x.data,
            .b = dy.data,
            .d = dw.data};
}

std::int64_t terms_at_once(const Product& product) {
    const bool exact = product.operands == Dtype::fp32 && product.output == Dtype::fp32;
    return exact ? std::min(product.k, longest_chain) : product.k;
}

ProductCall part_of_depth(const ProductCall& call, std::int64_t begin) {
    // The step is a multiple of 16 bytes, so a part's addresses divide as the product's do.
    static_assert(longest_chain % 16 == 0);
    const Product& whole = call.product;
    const auto moved = [&](const void* from, Operand op, Operand along_columns, std::int64_t ld) {
        const std::int64_t elements = op == along_columns ? begin * ld : begin;
        return static_cast<const std::byte*>(from) +
               elements * static_cast<std::int64_t>(size_of(whole.operands));
    };
    ProductCall part = call;
    part.product.k = std::min(terms_at_once(whole), whole.k - begin);
    if (begin > 0) part.product.result = Result::add;
    part.a = moved(call.a, whole.op_a, Operand::plain, whole.lda);
    part.b = moved(call.b, whole.op_b, Operand::transposed, whole.ldb);
    return part;
}

ProductDescription::ProductDescription(const Product& p)
    : operation_(make_operation(p)),
      a_(make_layout(p.operands, p.op_a, p.m, p.k, p.lda)),
      b_(make_layout(p.operands, p.op_b, p.k, p.n, p.ldb)),
      d_(make_layout(p.output, Operand::plain, p.m, p.n, p.ldd)) {}

}  // namespace fedit::cuda
