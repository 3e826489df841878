// tensor/cpu/blocked_products.cpp: oneDNN matmul primitives, created once a shape.
#include "tensor/cpu/blocked_products.h"

#include <fmt/format.h>
#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>

#include "fedit/core/error.h"
#include "tensor/cpu/bf16.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/scratch.h"

namespace fedit::cpu {

namespace {

using dnnl::memory;

/// What a primitive is made for; dense src (rows x depth) times weight (depth x cols).
struct Product {
    Dtype dtype;
    std::int64_t rows, depth, cols;
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

memory::desc dense(Dtype dtype, std::int64_t rows, std::int64_t cols) {
    return {memory::dims{rows, cols}, to_dnnl(dtype), memory::dims{cols, 1}};
}

memory::desc blocked_weight(Dtype dtype, std::int64_t depth, std::int64_t cols) {
    return {memory::dims{depth, cols}, to_dnnl(dtype),
            dtype == Dtype::fp32 ? memory::format_tag::BA16a64b : memory::format_tag::BA16a64b2a};
}

dnnl::matmul::primitive_desc describe(const dnnl::engine& engine, const Product& product) {
    const memory::desc src = dense(product.dtype, product.rows, product.depth);
    const memory::desc dst = dense(Dtype::fp32, product.rows, product.cols);
    const memory::desc weights = blocked_weight(product.dtype, product.depth, product.cols);
    dnnl::primitive_attr attributes;
    if (product.accumulate) {
        dnnl::post_ops add;
        add.append_sum();
        attributes.set_post_ops(add);
    }
    if (!product.bias) return {dnnl::matmul::desc(src, weights, dst), attributes, engine};
    const memory::desc bias = dense(Dtype::fp32, 1, product.cols);
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

}  // namespace

std::string onednn_name() {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch);
}

std::string blocked_kernel(Dtype dtype) {
    const dnnl::engine engine = cpu_engine();
    const bool has_instructions =
        cpu_has(dtype == Dtype::fp32 ? dnnl_cpu_isa_avx512_core : dnnl_cpu_isa_avx512_core_bf16);
    if (!has_instructions) return "";
    const std::string kernel =
        describe(engine, {dtype, 128, 768, 768, false, false}).impl_info_str();
    return kernel.starts_with("brg") ? kernel : "";
}

struct BlockedProducts::Impl {
    explicit Impl(int thread_count) : threads(thread_count), engine(cpu_engine()), stream(engine) {
        dnnl::set_primitive_cache_capacity(static_cast<int>(max_prepared));
    }

    int threads;
    dnnl::engine engine;
    dnnl::stream stream;
    std::map<Product, Prepared> prepared;
    Scratch x_scratch, y_scratch;

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
    }

    /// x as dense elements of `dtype`: its own memory, or a copy.
    const void* dense_operand(TensorView x, Dtype dtype) {
        if (dtype == Dtype::bf16) return round_to_bf16(threads, Operands::bf16, x_scratch, x);
        if (x.stride == x.cols) return x.data;
        const TensorView copy = fp32_view(x_scratch.floats(x.rows * x.cols), x.rows, x.cols);
        copy_matrix(threads, copy, x, /*add=*/false);
        return copy.data;
    }

    /// Kernels for blocked weights want dense rows, of x and of y.
    void multiply(TensorView y, TensorView x, Dtype dtype, const std::byte* b, const float* bias,
                  bool accumulate) {
        const void* const src = dense_operand(x, dtype);
        const bool through_copy = y.stride != y.cols;
        const TensorView dst =
            through_copy ? fp32_view(y_scratch.floats(y.rows * y.cols), y.rows, y.cols) : y;
        execute({dtype, x.rows, x.cols, y.cols, bias != nullptr, accumulate && !through_copy}, src,
                b, bias, dst.floats());
        if (through_copy) copy_matrix(threads, y, dst, accumulate);
    }

    void pack(std::byte* b, std::byte* b_transposed, Dtype dtype, TensorView values) {
        // Weights keep their denormal numbers.
        const void* const from =
            dtype == Dtype::bf16
                ? round_to_bf16(threads, Operands::emulated_bf16, x_scratch, values)
                : values.data;
        const std::int64_t rows = values.rows, cols = values.cols;
        reorder(dense(dtype, rows, cols), from, blocked_weight(dtype, rows, cols), b);
        const memory::desc transposed({cols, rows}, to_dnnl(dtype), memory::dims{1, cols});
        reorder(transposed, from, blocked_weight(dtype, cols, rows), b_transposed);
    }

    void reorder(const memory::desc& plain, const void* from, const memory::desc& packed,
                 std::byte* to) {
        const ThreadScope scope(threads);
        memory source(plain, engine, const_cast<void*>(from)), target(packed, engine, to);
        dnnl::reorder(source, target).execute(stream, source, target);
        stream.wait();
    }
};

BlockedProducts::BlockedProducts(int threads) : impl_(std::make_unique<Impl>(threads)) {}

BlockedProducts::~BlockedProducts() = default;

std::size_t BlockedProducts::packed_bytes(Dtype dtype, std::int64_t depth, std::int64_t cols) {
    return blocked_weight(dtype, depth, cols).get_size();
}

void BlockedProducts::pack(std::byte* b, std::byte* b_transposed, Dtype dtype, TensorView values) {
    impl_->pack(b, b_transposed, dtype, values);
}

void BlockedProducts::multiply(TensorView y, TensorView x, Dtype dtype, const std::byte* b,
                               const float* bias, bool accumulate) {
    try {
        impl_->multiply(y, x, dtype, b, bias, accumulate);
    } catch (const dnnl::error& error) {
        throw RunError({.what = fmt::format("oneDNN failed: {}", error.what()),
                        .where = fmt::format("{} product {} x {} x {}", to_string(dtype), x.rows,
                                             x.cols, y.cols),
                        .remedy = "check the memory that is left; `fedit doctor` shows this CPU"});
    }
}

}  // namespace fedit::cpu
