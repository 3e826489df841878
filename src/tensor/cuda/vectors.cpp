// tensor/cuda/vectors.cpp: flat fp32 vectors: optimizer steps, sums, norms.
#include "tensor/adamw_step.h"
#include "tensor/check.h"
#include "tensor/cuda/cuda_backend.h"
#include "tensor/cuda/kernels.h"

namespace fedit::cuda {

namespace {

std::int64_t count_of(std::span<const float> x) {
    return static_cast<std::int64_t>(x.size());
}

}  // namespace

void CudaBackend::adamw(std::span<float> x, std::span<const float> g, std::span<float> m,
                        std::span<float> v, const AdamW& settings) {
    check::same_size("adamw", "x", x.size(), "g", g.size());
    check::same_size("adamw", "x", x.size(), "m", m.size());
    check::same_size("adamw", "x", x.size(), "v", v.size());
    fedit::cuda::adamw(x.data(), g.data(), m.data(), v.data(), count_of(x), adamw_step(settings),
                       stream());
    finish("adamw");
}

void CudaBackend::sgd(std::span<float> x, std::span<const float> g, double lr,
                      double weight_decay) {
    check::same_size("sgd", "x", x.size(), "g", g.size());
    fedit::cuda::sgd(x.data(), g.data(), count_of(x), static_cast<float>(lr),
                     static_cast<float>(weight_decay), stream());
    finish("sgd");
}

void CudaBackend::scale(std::span<float> x, float factor) {
    fedit::cuda::scale(x.data(), count_of(x), factor, stream());
    finish("scale");
}

void CudaBackend::fill(std::span<float> x, float value) {
    fedit::cuda::fill(x.data(), count_of(x), value, stream());
    finish("fill");
}

void CudaBackend::copy(std::span<float> to, std::span<const float> from) {
    check::same_size("copy", "to", to.size(), "from", from.size());
    check(cudaMemcpyAsync(to.data(), from.data(), to.size_bytes(), cudaMemcpyDeviceToDevice,
                          stream()),
          "copy on the device");
    finish("copy");
}

double CudaBackend::squared_norm(std::span<const float> x) {
    return squared_distance_or_norm(x, nullptr);
}

double CudaBackend::squared_distance(std::span<const float> x, std::span<const float> x0) {
    check::same_size("squared_distance", "x", x.size(), "x0", x0.size());
    return squared_distance_or_norm(x, x0.data());
}

double CudaBackend::squared_distance_or_norm(std::span<const float> x, const float* x0) {
    if (x.empty()) return 0;
    // The sum, then the sums of blocks.
    auto* const sum = scratch_.array<double>(1 + squared_norm_scratch(count_of(x)));
    fedit::cuda::squared_norm(sum, x.data(), x0, count_of(x), sum + 1, stream());
    double result = 0;
    staging_.download(std::as_writable_bytes(std::span(&result, 1)), sum);
    return result;
}

void CudaBackend::accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                   std::span<const float> x0, double weight) {
    check::same_size("accumulate_fixed", "words", words.size(), "x", x.size());
    check::same_size("accumulate_fixed", "words", words.size(), "x0", x0.size());
    fedit::cuda::accumulate_fixed(words.data(), x.data(), x0.data(), weight, count_of(x), stream());
    finish("accumulate_fixed");
}

}  // namespace fedit::cuda
