// tensor/cpu/linear.cpp: products with the frozen base.
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"

namespace fedit::cpu {

std::size_t CpuBackend::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    return products_.packed_bytes(dtype, out, in);
}

void CpuBackend::pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                      std::int64_t out, std::int64_t in) {
    check::pack(dtype, values, out, in);
    products_.pack(memory, dtype, values, out, in);
}

void CpuBackend::linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                        bool accumulate) {
    check::linear(y, x, w);
    products_.multiply(y, x, w, bias, accumulate);
}

void CpuBackend::linear_dx(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate) {
    check::linear_dx(dx, dy, w);
    products_.multiply_transposed(dx, dy, w, accumulate);
}

}  // namespace fedit::cpu
