// tensor/cpu/products.cpp: who makes a product; and oneDNN matmul primitives, created once a shape.
#include "tensor/cpu/products.h"

#include <fmt/format.h>
#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>
#include <tuple>

#include "fedit/core/error.h"
#include "tensor/cpu/bf16.h"
#include "tensor/cpu/panel_products.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/tile_products.h"

namespace fedit::cpu {

namespace {

using dnnl::memory;

/// W takes x to y, W^T takes dy to dx.
enum class Form { w, w_transposed };

/// What a primitive is made for; dense src (rows x depth) times weight (depth x cols).
struct Product {
    Form form;
    Dtype dtype;
    std::int64_t rows, depth, cols, dst_stride;
    bool bias, accumulate;
    auto operator<=>(const Product&) const = default;
};

/// A primitive and the handles that its execution binds to memory.
struct Prepared {
    dnnl::matmul primitive;
    memory src, weights, bias, dst;
};

/// Shapes change with every batch, and each primitive keeps packing buffers: remember those of a
/// few batches, here and in oneDNN's own cache.
constexpr std::size_t max_prepared = 128;

memory::data_type to_dnnl(Dtype dtype) {
    return dtype == Dtype::fp32 ? memory::data_type::f32 : memory::data_type::bf16;
}

memory::desc matrix(Dtype dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
    return {memory::dims{rows, cols}, to_dnnl(dtype), memory::dims{stride, 1}};
}

/// The weight, as it is given: a (depth x cols) operand in rows of W.
memory::desc plain_weight(Form form, Dtype dtype, std::int64_t depth, std::int64_t cols) {
    return {memory::dims{depth, cols}, to_dnnl(dtype),
            form == Form::w ? memory::dims{1, depth} : memory::dims{cols, 1}};
}

memory::desc blocked_weight(Dtype dtype, std::int64_t depth, std::int64_t cols) {
    return {memory::dims{depth, cols}, to_dnnl(dtype),
            dtype == Dtype::fp32 ? memory::format_tag::BA16a64b : memory::format_tag::BA16a64b2a};
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const Product& product) {
    const memory::desc src = matrix(product.dtype, product.rows, product.depth, product.depth);
    const memory::desc dst = matrix(Dtype::fp32, product.rows, product.cols, product.dst_stride);
    const memory::desc weights = blocked_weight(product.dtype, product.depth, product.cols);
    dnnl::primitive_attr attributes;
    if (product.accumulate) {
        dnnl::post_ops add;
        add.append_sum();
        attributes.set_post_ops(add);
    }
    if (!product.bias) return {dnnl::matmul::desc(src, weights, dst), attributes, engine};
    const memory::desc bias = matrix(Dtype::fp32, 1, product.cols, product.cols);
    return {dnnl::matmul::desc(src, weights, bias, dst), attributes, engine};
}

/// Makes oneDNN use this back end's threads, and nobody else's choice change.
class ThreadScope {
public:
    explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
        omp_set_num_threads(threads);
    }
    ~ThreadScope() { omp_set_num_threads(before_); }
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

private:
    int before_;
};

bool cpu_has(dnnl_cpu_isa_t isa) {
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}

/// oneDNN without its AMX kernels: they divide a product by its number of rows, and a row's bits
/// would depend on its company. Ours (tile_products.h) do not.
dnnl::engine cpu_engine() {
    // Only before anything has asked for the CPU's instructions; later calls change nothing.
    dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
    if (cpu_has(dnnl_cpu_isa_avx512_core_amx)) {
        throw RunError({.what = "oneDNN cannot be kept from AMX, whose results are not exact here",
                        .where = "dnnl_set_max_cpu_isa",
                        .remedy = "set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16"});
    }
    return {dnnl::engine::kind::cpu, 0};
}

void copy_matrix(int threads, TensorView to, TensorView from, bool add) {
    parallel_blocks(threads, from.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            float* out = to.row(t);
            const float* in = from.row(t);
            for (std::int64_t j = 0; j < from.cols; ++j) out[j] = add ? out[j] + in[j] : in[j];
        }
    });
}

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
    const dnnl::engine engine = cpu_engine();
    if (!cpu_has(dnnl_cpu_isa_avx512_core)) return {};
    // The blocked layout is fast only where oneDNN has a kernel that reads it.
    const Product sample{Form::w, Dtype::fp32, 128, 768, 768, 768, false, false};
    const std::string kernel = describe(engine, sample).impl_info_str();
    if (!kernel.starts_with("brg")) return {};
    ProductChoice choice{.layout = WeightLayout::blocked};
    // Attention and adapters need AVX512_BF16 beside AMX; every CPU with the one has the other.
    if (cpu_has(dnnl_cpu_isa_avx512_core_bf16)) {
        choice.bf16 = has_amx() ? Bf16Products::amx : Bf16Products::avx512_bf16;
    }
    return choice;
}

std::string product_library(const ProductChoice& choice) {
    const dnnl_version_t* version = dnnl_version();
    std::string name =
        fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
    if (choice.bf16 == Bf16Products::amx) return name + ", bf16 by AMX";
    if (choice.bf16 != Bf16Products::avx512_bf16) return name;
    const dnnl::engine engine = cpu_engine();
    const Product sample{Form::w, Dtype::bf16, 128, 768, 768, 768, false, false};
    return fmt::format("{}, bf16 by {}", name, describe(engine, sample).impl_info_str());
}

struct Products::Impl {
    Impl(int thread_count, ProductChoice product_choice)
        : threads(thread_count), choice(product_choice), engine(cpu_engine()), stream(engine) {
        dnnl::set_primitive_cache_capacity(static_cast<int>(max_prepared));
    }

    int threads;
    ProductChoice choice;
    dnnl::engine engine;
    dnnl::stream stream;
    std::map<Product, Prepared> prepared;
    Scratch src_scratch, dst_scratch, bf16_scratch, panel_scratch;

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
                bytes = blocked_weight(dtype, depth, cols).get_size();
                break;
        }
        return (bytes + memory_alignment - 1) / memory_alignment * memory_alignment;
    }

    Prepared& prepare(const Product& product) {
        if (const auto found = prepared.find(product); found != prepared.end()) {
            return found->second;
        }
        if (prepared.size() >= max_prepared) prepared.clear();
        const auto described = describe(engine, product);
        const auto unbound = [&](const memory::desc& desc) {
            return memory(desc, engine, DNNL_MEMORY_NONE);
        };
        Prepared made{dnnl::matmul(described), unbound(described.src_desc()),
                      unbound(described.weights_desc()), unbound(described.bias_desc()),
                      unbound(described.dst_desc())};
        return prepared.emplace(product, std::move(made)).first->second;
    }

    void execute(const Product& product, const void* src, const void* weights, const float* bias,
                 float* dst) {
        const ThreadScope scope(threads);
        try {
            Prepared& ready = prepare(product);
            // oneDNN takes operands it only reads as void* too.
            ready.src.set_data_handle(const_cast<void*>(src));
            ready.weights.set_data_handle(const_cast<void*>(weights));
            ready.dst.set_data_handle(dst);
            std::unordered_map<int, memory> arguments{{DNNL_ARG_SRC, ready.src},
                                                      {DNNL_ARG_WEIGHTS, ready.weights},
                                                      {DNNL_ARG_DST, ready.dst}};
            if (product.bias) {
                ready.bias.set_data_handle(const_cast<float*>(bias));
                arguments.emplace(DNNL_ARG_BIAS, ready.bias);
            }
            ready.primitive.execute(stream, arguments);
            stream.wait();
        } catch (const dnnl::error& error) {
            throw RunError(
                {.what = fmt::format("oneDNN failed: {}", error.what()),
                 .where = fmt::format("{} product {} x {} x {}", to_string(product.dtype),
                                      product.rows, product.depth, product.cols),
                 .remedy = "check the memory that is left; `fedit doctor` shows this CPU"});
        }
    }

    /// dst = src W (form w: W^T of the docstrings), both forms alike.
    void multiply(Form form, TensorView dst, TensorView src, const PackedWeight& w,
                  const float* bias, bool accumulate) {
        if (src.rows == 0) return;
        const std::byte* weights = w.data;
        if (form == Form::w_transposed) weights += form_bytes(Form::w, w.dtype, w.out, w.in);
        const WeightLayout layout = layout_of(w.dtype);
        if (layout == WeightLayout::blocked) {
            multiply_blocked(form, dst, src, w.dtype, weights, bias, accumulate);
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

    void multiply_blocked(Form form, TensorView dst, TensorView src, Dtype dtype,
                          const std::byte* weights, const float* bias, bool accumulate) {
        const void* operand = src.data;
        if (dtype == Dtype::bf16) {
            operand = rounded(Operands::bf16, src);
        } else if (src.stride != src.cols) {
            // Kernels for blocked weights want dense rows, here and in dst.
            const TensorView dense =
                fp32_view(src_scratch.floats(src.rows * src.cols), src.rows, src.cols);
            copy_matrix(threads, dense, src, /*add=*/false);
            operand = dense.data;
        }
        const bool through_dense = dst.stride != dst.cols;
        const TensorView result =
            through_dense ? fp32_view(dst_scratch.floats(dst.rows * dst.cols), dst.rows, dst.cols)
                          : dst;
        const Product product{
            form,     dtype,         src.rows,        src.cols,
            dst.cols, result.stride, bias != nullptr, accumulate && !through_dense};
        execute(product, operand, weights, bias, result.floats());
        if (through_dense) copy_matrix(threads, dst, result, accumulate);
    }

    std::uint16_t* rounded(Operands operands, TensorView x) {
        auto* const to = reinterpret_cast<std::uint16_t*>(
            bf16_scratch.bytes(static_cast<std::size_t>(x.rows * x.cols) * 2));
        round_to_bf16(threads, operands, to, x.cols, x);
        return to;
    }

    /// x rounded to bf16, as fp32.
    TensorView as_bf16(TensorView x) {
        const TensorView wide = fp32_view(src_scratch.floats(x.rows * x.cols), x.rows, x.cols);
        widen_bf16(threads, wide.floats(), rounded(Operands::emulated_bf16, x), x.rows * x.cols);
        return wide;
    }

    void pack_blocked(std::byte* to, Dtype dtype, TensorView w) {
        const void* from = dtype == Dtype::bf16 ? rounded(Operands::emulated_bf16, w) : w.data;
        const ThreadScope scope(threads);
        for (const Form form : {Form::w, Form::w_transposed}) {
            const auto [depth, cols] =
                form == Form::w ? std::pair(w.cols, w.rows) : std::pair(w.rows, w.cols);
            memory plain(plain_weight(form, dtype, depth, cols), engine, const_cast<void*>(from));
            memory packed(blocked_weight(dtype, depth, cols), engine, to);
            dnnl::reorder(plain, packed).execute(stream, plain, packed);
            stream.wait();
            to += form_bytes(form, dtype, w.rows, w.cols);
        }
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
            impl_->pack_blocked(memory_begin, dtype, w);
            return;
        case WeightLayout::tiles: {
            const std::uint16_t* const rounded = impl_->rounded(Operands::emulated_bf16, w);
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
