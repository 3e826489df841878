// tensor/cpu/exp-inl.h: an exponential for every float; included once a target.
#if defined(FEDIT_TENSOR_CPU_EXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_EXP_INL_H
#undef FEDIT_TENSOR_CPU_EXP_INL_H
#else
#define FEDIT_TENSOR_CPU_EXP_INL_H
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// exp(x); exp(88) for larger x. Highway's own is wrong where it would overflow, and turns NaN into
/// 0, which would hide a run that has diverged.
template <class D, class V>
HWY_INLINE V ExpOf(D d, V x) {
    namespace hn = hwy::HWY_NAMESPACE;
    const V result = hn::Exp(d, hn::Min(x, hn::Set(d, 88.0F)));
    return hn::IfThenElse(hn::IsNaN(x), x, result);
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
