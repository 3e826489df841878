// tensor/cpu/vector-inl.h: loops over a row in full vectors, then single lanes; included once a
// target.
#if defined(FEDIT_TENSOR_CPU_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_VECTOR_INL_H
#undef FEDIT_TENSOR_CPU_VECTOR_INL_H
#else
#define FEDIT_TENSOR_CPU_VECTOR_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using OneFloat = hn::CappedTag<float, 1>;

HWY_INLINE std::int64_t FloatLanes() {
    return static_cast<std::int64_t>(hn::Lanes(FloatTag()));
}

/// Asks for floats that are needed soon, but not so soon that they should take room in L1.
HWY_INLINE void PrefetchToL2(const float* from, std::int64_t floats) {
    for (std::int64_t i = 0; i < floats; i += 16) __builtin_prefetch(from + i, 0, 2);
}

/// Calls body(d, j) for full vectors, then for single lanes.
template <class Body>
HWY_INLINE void ForEach(std::int64_t count, const Body& body) {
    const std::int64_t lanes = FloatLanes();
    std::int64_t j = 0;
    for (; j + lanes <= count; j += lanes) body(FloatTag(), j);
    for (; j < count; ++j) body(OneFloat(), j);
}

/// Sum over j of term(d, j), full vectors first.
template <class Term>
HWY_INLINE float SumOver(std::int64_t count, const Term& term) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    auto sum = hn::Zero(d);
    std::int64_t j = 0;
    for (; j + lanes <= count; j += lanes) sum = hn::Add(sum, term(d, j));
    float total = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; j < count; ++j) total += hn::GetLane(term(OneFloat(), j));
    return total;
}

/// The largest x[0..count), count > 0.
HWY_INLINE float MaxOf(const float* x, std::int64_t count) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    auto best = hn::Set(d, x[0]);
    std::int64_t j = 0;
    for (; j + lanes <= count; j += lanes) best = hn::Max(best, hn::LoadU(d, x + j));
    float result = hn::GetLane(hn::MaxOfLanes(d, best));
    for (; j < count; ++j) result = x[j] > result ? x[j] : result;
    return result;
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
