// tensor/cpu/rope.cpp: rotary position embedding.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/rope.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Rotates the `heads` heads of one row; `sign` is -1 for the inverse.
void RotateRow(float* row, std::int64_t heads, std::int64_t half, const float* cosines,
               const float* sines, float sign) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    for (std::int64_t head = 0; head < heads; ++head) {
        float* low = row + head * 2 * half;
        float* high = low + half;
        std::int64_t i = 0;
        for (; i + lanes <= half; i += lanes) {
            const auto c = hn::LoadU(d, cosines + i);
            const auto s = hn::Mul(hn::Set(d, sign), hn::LoadU(d, sines + i));
            const auto a = hn::LoadU(d, low + i);
            const auto b = hn::LoadU(d, high + i);
            hn::StoreU(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), d, low + i);
            hn::StoreU(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), d, high + i);
        }
        for (; i < half; ++i) {
            const float c = cosines[i], s = sign * sines[i], a = low[i], b = high[i];
            low[i] = a * c - b * s;
            high[i] = b * c + a * s;
        }
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(RotateRow);

void CpuBackend::rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) {
    check::rope(x, heads, rotary);
    check::only_fp32("rope", {x});
    const auto& [positions, inv_freq, attention_scale] = rotary;
    if (positions.empty()) return;
    rope_table_.cover(*std::ranges::max_element(positions), inv_freq, attention_scale);
    const auto rotate_row = HWY_DYNAMIC_DISPATCH(RotateRow);
    const auto half = static_cast<std::int64_t>(inv_freq.size());
    const float sign = inverse ? -1.0F : 1.0F;
    parallel_blocks(threads_, x.rows, 32, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            const std::int64_t position = positions[static_cast<std::size_t>(t)];
            rotate_row(x.row(t), heads, half, rope_table_.cosines(position),
                       rope_table_.sines(position), sign);
        }
    });
}

}  // namespace fedit::cpu
#endif
