// tensor/cpu/bf16.cpp: rounds activations and weights to bf16, and back.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/bf16.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "tensor/cpu/bf16.h"
#include "tensor/cpu/operands-inl.h"
#include "tensor/cpu/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

template <class O>
HWY_INLINE void RoundRowsBy(std::uint16_t* to, std::int64_t stride, TensorView x) {
    for (std::int64_t t = 0; t < x.rows; ++t) {
        const float* const from = x.row(t);
        ForEach(x.cols, [to, from, next = x.stride](auto d, std::int64_t j) HWY_ATTR {
            hwy::Prefetch(from + next + j);
            O::Store(d, hn::LoadU(d, from + j), to + j);
        });
        std::fill(to + x.cols, to + stride, std::uint16_t{0});
        to += stride;
    }
}

void RoundRows(Operands operands, std::uint16_t* to, std::int64_t stride, TensorView x) {
    if (operands == Operands::bf16) return RoundRowsBy<NativeBf16>(to, stride, x);
    RoundRowsBy<EmulatedBf16>(to, stride, x);
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <bit>
#include <cstring>

namespace fedit::cpu {

HWY_EXPORT(RoundRows);

void round_rows_to_bf16(Operands operands, std::uint16_t* to, std::int64_t stride, TensorView x) {
    HWY_DYNAMIC_DISPATCH(RoundRows)(operands, to, stride, x);
}

const std::uint16_t* round_to_bf16(int threads, Operands operands, Scratch& scratch, TensorView x) {
    auto* const to = reinterpret_cast<std::uint16_t*>(
        scratch.bytes(static_cast<std::size_t>(x.rows * x.cols) * sizeof(std::uint16_t)));
    parallel_blocks(threads, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        round_rows_to_bf16(operands, to + begin * x.cols, x.cols, x.row_range(begin, end - begin));
    });
    return to;
}

void widen_bf16(int threads, float* to, const void* from, std::int64_t count) {
    const auto* bytes = static_cast<const std::byte*>(from);
    parallel_blocks(threads, count, 4096, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t i = begin; i < end; ++i) {
            std::uint16_t bits;
            std::memcpy(&bits, bytes + 2 * i, sizeof bits);
            to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
        }
    });
}

}  // namespace fedit::cpu
#endif
