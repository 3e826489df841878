// tensor/cpu/swiglu.cpp: y = silu(gate) * up, and its backward.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/swiglu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/cpu/exp-inl.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

template <class D, class V>
HWY_INLINE V Sigmoid(D d, V x) {
    const V one = hn::Set(d, 1.0F);
    return hn::Div(one, hn::Add(one, ExpOf(d, hn::Neg(x))));
}

void SwigluRow(float* y, const float* gate, const float* up, std::int64_t count) {
    ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto g = hn::LoadU(d, gate + j);
        const auto silu = hn::Mul(g, Sigmoid(d, g));
        hn::StoreU(hn::Mul(silu, hn::LoadU(d, up + j)), d, y + j);
    });
}

/// dgate = dy up s (1 + g (1 - s)), dup = dy g s, with s = sigmoid(g).
void SwigluRowBackward(float* dgate, float* dup, const float* dy, const float* gate,
                       const float* up, std::int64_t count) {
    ForEach(count, [&](auto d, std::int64_t j) HWY_ATTR {
        const auto g = hn::LoadU(d, gate + j);
        const auto u = hn::LoadU(d, up + j);
        const auto gradient = hn::LoadU(d, dy + j);
        const auto s = Sigmoid(d, g);
        const auto one = hn::Set(d, 1.0F);
        const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
        hn::StoreU(hn::Mul(hn::Mul(gradient, u), slope), d, dgate + j);
        hn::StoreU(hn::Mul(gradient, hn::Mul(g, s)), d, dup + j);
    });
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(SwigluRow);
HWY_EXPORT(SwigluRowBackward);

void CpuBackend::swiglu(TensorView y, TensorView gate, TensorView up) {
    check::swiglu(y, gate, up);
    check::only_fp32("swiglu", {gate});
    const auto forward = HWY_DYNAMIC_DISPATCH(SwigluRow);
    parallel_blocks(threads_, y.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t)
            forward(y.row(t), gate.row(t), up.row(t), y.cols);
    });
}

void CpuBackend::swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                                 TensorView up) {
    check::swiglu_backward(dgate, dup, dy, gate, up);
    check::only_fp32("swiglu_backward", {gate});
    const auto backward = HWY_DYNAMIC_DISPATCH(SwigluRowBackward);
    parallel_blocks(threads_, dy.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            backward(dgate.row(t), dup.row(t), dy.row(t), gate.row(t), up.row(t), dy.cols);
        }
    });
}

}  // namespace fedit::cpu
#endif
