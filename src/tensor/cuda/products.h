// tensor/cuda/products.h: runs matrix products by cuBLASLt, with a plan for each shape.
#pragma once

#include <map>

#include "tensor/cuda/product.h"

namespace fedit::cuda {

/// A plan is the first that cuBLASLt's heuristic proposes without split-K: a function of shape,
/// library version and device model alone, so ranks agree on it and a run's identity needs no table
/// of plans. Without split-K each element is one chain over the depth, or over parts of it that are
/// added in order where the depth of an fp32 product would cost digits (part_of_depth). bf16
/// operands are summed in fp32; fp32 operands are multiplied in fp32, never in TF32. The workspace
/// is ours and serves one stream.
class Products {
public:
    /// Bytes of device memory that products work in.
    static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

    /// For the current device. Throws RunError.
    explicit Products(cudaStream_t stream);

    /// Puts the product on the stream; nothing to do where m or n is 0, or where zero terms are to
    /// be added. Throws RunError, also if cuBLASLt knows no plan for the shape.
    void multiply(const ProductCall& call);

private:
    struct Plan {
        ProductDescription description;
        cublasLtMatmulAlgo_t algorithm;
        std::size_t workspace;
    };
    const Plan& plan_for(const Product& product);
    /// One call of cuBLASLt.
    void launch(const ProductCall& call);

    cudaStream_t stream_;
    LtHandle handle_;
    DeviceMemory workspace_;
    std::map<Product, Plan> plans_;
};

}  // namespace fedit::cuda
