// tensor/cpu/linear.cpp: products with weights, and their gradients where they train.
#include "fedit/core/aligned_memory.h"
#include "tensor/check.h"
#include "tensor/cpu/bf16.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

std::size_t CpuBackend::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    return products_.packed_bytes(dtype, out, in);
}

void CpuBackend::pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                      std::int64_t out, std::int64_t in) {
    check::pack(dtype, values, out, in);
    products_.pack(memory, dtype, values, out, in);
}

void CpuBackend::pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                           std::int64_t in) {
    check::pack_bf16(dtype, rows, out, in);
    const std::int64_t count = out * in;
    // Not kept: a packed weight is asked for once, and the largest is that of the head.
    const AlignedMemory wide = allocate_aligned(static_cast<std::size_t>(count) * sizeof(float));
    auto* const values = reinterpret_cast<float*>(wide.get());
    std::int64_t done = 0;
    for (const std::span<const std::byte> part : rows) {
        const auto numbers = static_cast<std::int64_t>(part.size() / 2);
        widen_bf16(threads_, values + done, part.data(), numbers);
        done += numbers;
    }
    products_.pack(memory, dtype, {values, static_cast<std::size_t>(count)}, out, in);
}

void CpuBackend::repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                        std::int64_t in) {
    pack(memory, dtype, {values, static_cast<std::size_t>(out * in)}, out, in);
}

void CpuBackend::linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                        bool accumulate) {
    check::linear(y, x, w);
    check::only_fp32("linear", {y, x});
    products_.multiply(y, x, w, bias, accumulate);
}

void CpuBackend::linear_dx(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate) {
    check::linear_dx(dx, dy, w);
    check::only_fp32("linear_dx", {dx, dy});
    products_.multiply_transposed(dx, dy, w, accumulate);
}

void CpuBackend::linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) {
    check::linear_dw(dw, dbias, dy, x);
    check::only_fp32("linear_dw", {dy});
    if (dw.data != nullptr) products_.add_outer(dw, dy, x);
    if (dbias == nullptr) return;
    constexpr std::int64_t block_columns = 64;
    parallel_blocks(threads_, dy.cols, block_columns,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t t = 0; t < dy.rows; ++t) {
                            const float* row = dy.row(t);
                            for (std::int64_t j = begin; j < end; ++j) dbias[j] += row[j];
                        }
                    });
}

}  // namespace fedit::cpu
