// tensor/cpu/products.cpp: who makes a product, and how its weight lies.
#include "tensor/cpu/products.h"

#include "fedit/core/error.h"
#include "tensor/cpu/bf16.h"
#include "tensor/cpu/blocked_products.h"
#include "tensor/cpu/panel_products.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/tile_products.h"

namespace fedit::cpu {

namespace {

/// W takes x to y, W^T takes dy to dx.
enum class Form { w, w_transposed };

/// c = or += bias in every row.
void add_bias(int threads, TensorView c, const float* bias, bool accumulate) {
    parallel_blocks(threads, c.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            float* const row = c.row(t);
            for (std::int64_t j = 0; j < c.cols; ++j) {
                row[j] = accumulate ? row[j] + bias[j] : bias[j];
            }
        }
    });
}

}  // namespace

ProductChoice ProductChoice::for_this_cpu() {
    // The blocked layout is fast only where oneDNN has a kernel that reads it.
    if (blocked_kernel(Dtype::fp32).empty()) return {};
    ProductChoice choice{.layout = WeightLayout::blocked};
    // Attention and adapters need AVX512_BF16 beside AMX; every CPU with the one has the other.
    if (!blocked_kernel(Dtype::bf16).empty()) {
        choice.bf16 = has_amx() ? Bf16Products::amx : Bf16Products::avx512_bf16;
    }
    return choice;
}

std::string product_library(const ProductChoice& choice) {
    if (choice.bf16 == Bf16Products::amx) return onednn_name() + ", bf16 by AMX";
    if (choice.bf16 != Bf16Products::avx512_bf16) return onednn_name();
    return onednn_name() + ", bf16 by " + blocked_kernel(Dtype::bf16);
}

struct Products::Impl {
    Impl(int thread_count, ProductChoice product_choice)
        : threads(thread_count), choice(product_choice), blocked(thread_count) {}

    int threads;
    ProductChoice choice;
    BlockedProducts blocked;
    Scratch wide_scratch, bf16_scratch, panel_scratch;

    WeightLayout layout_of(Dtype dtype) const {
        if (dtype == Dtype::fp32) return choice.layout;
        switch (choice.bf16) {
            case Bf16Products::amx:
            case Bf16Products::emulated_amx:
                return WeightLayout::tiles;
            case Bf16Products::emulated:
                return WeightLayout::panels;
            case Bf16Products::avx512_bf16:
            case Bf16Products::absent:
                break;
        }
        return choice.layout;
    }

    std::size_t form_bytes(Form form, Dtype dtype, std::int64_t out, std::int64_t in) const {
        const auto [depth, cols] = form == Form::w ? std::pair(in, out) : std::pair(out, in);
        std::size_t bytes = 0;
        switch (layout_of(dtype)) {
            case WeightLayout::panels:
                bytes = static_cast<std::size_t>(panel_floats(depth, cols)) * sizeof(float);
                break;
            case WeightLayout::tiles:
                bytes = tile_panel_bytes(depth, cols);
                break;
            case WeightLayout::blocked:
                bytes = BlockedProducts::packed_bytes(dtype, depth, cols);
                break;
        }
        return (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
    }

    /// dst = src W (form w: W^T of the docstrings), both forms alike.
    void multiply(Form form, TensorView dst, TensorView src, const PackedWeight& w,
                  const float* bias, bool accumulate) {
        if (src.rows == 0) return;
        const std::byte* weights = w.data;
        if (form == Form::w_transposed) weights += form_bytes(Form::w, w.dtype, w.out, w.in);
        const WeightLayout layout = layout_of(w.dtype);
        if (layout == WeightLayout::blocked) {
            blocked.multiply(dst, src, w.dtype, weights, bias, accumulate);
            return;
        }
        if (bias != nullptr) add_bias(threads, dst, bias, accumulate);
        accumulate = accumulate || bias != nullptr;
        if (layout == WeightLayout::tiles) {
            const TileUnit unit =
                choice.bf16 == Bf16Products::amx ? TileUnit::amx : TileUnit::emulated;
            multiply_tile_panels(threads, unit, bf16_scratch, dst, src, weights, accumulate);
        } else {
            const TensorView operand = w.dtype == Dtype::bf16 ? as_bf16(src) : src;
            multiply_panels(threads, panel_scratch, dst, operand,
                            reinterpret_cast<const float*>(weights), accumulate);
        }
    }

    /// With denormal numbers, as weights keep them.
    const std::uint16_t* rounded(TensorView x) {
        return round_to_bf16(threads, Operands::emulated_bf16, bf16_scratch, x);
    }

    /// x rounded to bf16, as fp32.
    TensorView as_bf16(TensorView x) {
        const TensorView wide = fp32_view(wide_scratch.floats(x.rows * x.cols), x.rows, x.cols);
        widen_bf16(threads, wide.floats(), rounded(x), x.rows * x.cols);
        return wide;
    }
};

Products::Products(int threads, ProductChoice choice)
    : choice_(choice), impl_(std::make_unique<Impl>(threads, choice)) {}

Products::~Products() = default;

std::size_t Products::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    return impl_->form_bytes(Form::w, dtype, out, in) +
           impl_->form_bytes(Form::w_transposed, dtype, out, in);
}

void Products::pack(std::byte* memory_begin, Dtype dtype, std::span<const float> values,
                    std::int64_t out, std::int64_t in) {
    if (dtype == Dtype::bf16 && choice_.bf16 == Bf16Products::absent) {
        throw InputError({.what = "this CPU has no bf16 products",
                          .where = "--dtype bf16; missing instructions: avx512_bf16",
                          .remedy = "use --dtype fp32"});
    }
    const TensorView w{const_cast<float*>(values.data()), Dtype::fp32, out, in, in};
    std::byte* const transposed = memory_begin + impl_->form_bytes(Form::w, dtype, out, in);
    switch (impl_->layout_of(dtype)) {
        case WeightLayout::blocked:
            impl_->blocked.pack(transposed, memory_begin, dtype, w);
            return;
        case WeightLayout::tiles: {
            const std::uint16_t* const rounded = impl_->rounded(w);
            pack_tile_panels_transposed(impl_->threads, memory_begin, rounded, in, out);
            pack_tile_panels(impl_->threads, transposed, rounded, out, in);
            return;
        }
        case WeightLayout::panels: {
            const TensorView source = dtype == Dtype::bf16 ? impl_->as_bf16(w) : w;
            pack_panels_transposed(impl_->threads, reinterpret_cast<float*>(memory_begin), source);
            pack_panels(impl_->threads, reinterpret_cast<float*>(transposed), source);
            return;
        }
    }
}

void Products::multiply(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                        bool accumulate) {
    impl_->multiply(Form::w, y, x, w, bias, accumulate);
}

void Products::multiply_transposed(TensorView dx, TensorView dy, const PackedWeight& w,
                                   bool accumulate) {
    impl_->multiply(Form::w_transposed, dx, dy, w, nullptr, accumulate);
}

void Products::add_outer(TensorView dw, TensorView dy, TensorView x) {
    if (dy.rows == 0) return;
    add_outer_product(impl_->threads, impl_->panel_scratch, dw, dy, x);
}

}  // namespace fedit::cpu
