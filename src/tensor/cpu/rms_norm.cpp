// tensor/cpu/rms_norm.cpp: RMSNorm with its residual addition, and its backward.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/rms_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>

#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

HWY_INLINE float InverseRms(float sum_of_squares, std::int64_t count, float eps) {
    return 1.0F / std::sqrt(sum_of_squares / static_cast<float>(count) + eps);
}

void NormalizeRow(float* y, float* x, const float* residual, const float* gain, std::int64_t count,
                  float eps) {
    if (residual != nullptr) {
        ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
            hn::StoreU(hn::Add(hn::LoadU(d, x + j), hn::LoadU(d, residual + j)), d, x + j);
        });
    }
    const float squares = SumOver(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto value = hn::LoadU(d, x + j);
        return hn::Mul(value, value);
    });
    const float inverse = InverseRms(squares, count, eps);
    ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto normalized = hn::Mul(hn::LoadU(d, x + j), hn::Set(d, inverse));
        hn::StoreU(hn::Mul(hn::LoadU(d, gain + j), normalized), d, y + j);
    });
}

/// With r = 1 / rms and n columns: dx = r (gain dy) - x r^3 / n * sum(gain dy x), plus `added`
/// unless that is null.
void NormalizeRowBackward(float* dx, const float* added, const float* dy, const float* x,
                          const float* gain, std::int64_t count, float eps) {
    const float squares = SumOver(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto value = hn::LoadU(d, x + j);
        return hn::Mul(value, value);
    });
    const float dot = SumOver(count, [&](auto d, std::int64_t j) HWY_ATTR {
        return hn::Mul(hn::Mul(hn::LoadU(d, gain + j), hn::LoadU(d, dy + j)), hn::LoadU(d, x + j));
    });
    const float r = InverseRms(squares, count, eps);
    const float along_x = -r * r * r * dot / static_cast<float>(count);
    ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto scaled =
            hn::Mul(hn::Mul(hn::LoadU(d, gain + j), hn::LoadU(d, dy + j)), hn::Set(d, r));
        const auto step = hn::MulAdd(hn::LoadU(d, x + j), hn::Set(d, along_x), scaled);
        const auto base = added == nullptr ? hn::Zero(d) : hn::LoadU(d, added + j);
        hn::StoreU(hn::Add(base, step), d, dx + j);
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(NormalizeRow);
HWY_EXPORT(NormalizeRowBackward);

void CpuBackend::rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                          float eps) {
    check::rms_norm(y, x, residual);
    check::only_fp32("rms_norm", {x});
    const auto normalize = HWY_DYNAMIC_DISPATCH(NormalizeRow);
    parallel_blocks(threads_, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            const float* added = residual.data == nullptr ? nullptr : residual.row(t);
            normalize(y.row(t), x.row(t), added, gain, x.cols, eps);
        }
    });
}

void CpuBackend::rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain,
                                   float eps) {
    check::same_shape("rms_norm_backward", "x", x, "dx", dx);
    check::same_shape("rms_norm_backward", "x", x, "dy", dy);
    check::only_fp32("rms_norm_backward", {x});
    const auto backward = HWY_DYNAMIC_DISPATCH(NormalizeRowBackward);
    parallel_blocks(threads_, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            backward(dx.row(t), dx.row(t), dy.row(t), x.row(t), gain, x.cols, eps);
        }
    });
}

void CpuBackend::head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain,
                               float eps) {
    check::head_rms_norm(y, x, heads);
    check::only_fp32("head_rms_norm", {x});
    const std::int64_t head_dim = x.cols / heads;
    const auto normalize = HWY_DYNAMIC_DISPATCH(NormalizeRow);
    parallel_blocks(threads_, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            for (std::int64_t j = 0; j < x.cols; j += head_dim) {
                normalize(y.row(t) + j, x.row(t) + j, nullptr, gain, head_dim, eps);
            }
        }
    });
}

void CpuBackend::head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                        std::int64_t heads, const float* gain, float eps) {
    check::head_rms_norm(dx, x, heads);
    check::same_shape("head_rms_norm_backward", "x", x, "dy", dy);
    check::only_fp32("head_rms_norm_backward", {x});
    const std::int64_t head_dim = x.cols / heads;
    const auto backward = HWY_DYNAMIC_DISPATCH(NormalizeRowBackward);
    parallel_blocks(threads_, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            for (std::int64_t j = 0; j < x.cols; j += head_dim) {
                backward(dx.row(t) + j, nullptr, dy.row(t) + j, x.row(t) + j, gain, head_dim, eps);
            }
        }
    });
}

}  // namespace fedit::cpu
#endif
