// tensor/cpu/products.h: products with packed weights, in panels of our own or through oneDNN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "fedit/tensor/backend.h"
#include "fedit/tensor/tensor.h"

namespace fedit::cpu {

/// How weights lie in packed memory, W and W^T each; either way a result's bits depend neither on
/// threads nor on other rows.
enum class WeightLayout {
    panels,   ///< what panel_products.h reads: fp32
    tiles,    ///< what tile_products.h reads: bf16
    blocked,  ///< what blocked_products.h reads (oneDNN, AVX-512): fp32 and bf16
};

/// What a bf16 weight means.
enum class Bf16Products {
    absent,       ///< pack() refuses it
    avx512_bf16,  ///< the CPU's bf16 instructions, from blocked weights
    amx,          ///< the CPU's tile registers
    emulated,  ///< operands rounded to bf16, then an fp32 product in panels: for tests on any CPU
    emulated_amx,  ///< the bits of tile registers, for the same
};

/// Whether they are by the CPU's instructions.
constexpr bool is_native(Bf16Products products) {
    return products == Bf16Products::avx512_bf16 || products == Bf16Products::amx;
}

struct ProductChoice {
    WeightLayout layout = WeightLayout::panels;
    Bf16Products bf16 = Bf16Products::absent;

    /// The fastest that this CPU can do.
    static ProductChoice for_this_cpu();
};

/// Packs weights and multiplies by them. Shapes are checked by the caller.
class Products {
public:
    Products(int threads, ProductChoice choice);
    ~Products();
    Products(const Products&) = delete;
    Products& operator=(const Products&) = delete;

    std::size_t packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const;
    /// Throws InputError if this CPU has no products of `dtype`.
    void pack(std::byte* memory, Dtype dtype, std::span<const float> values, std::int64_t out,
              std::int64_t in);
    /// y = x W^T + bias (+ y if accumulate).
    void multiply(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                  bool accumulate);
    /// dx = dy W (+ dx if accumulate).
    void multiply_transposed(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate);
    /// dw += dy^T x, in fp32.
    void add_outer(TensorView dw, TensorView dy, TensorView x);

    ProductChoice choice() const { return choice_; }

private:
    struct Impl;
    ProductChoice choice_;
    std::unique_ptr<Impl> impl_;
};

/// "oneDNN 2.6.3", and who makes bf16 products where the CPU has them: it decides bits.
std::string product_library(const ProductChoice& choice);

}  // namespace fedit::cpu
