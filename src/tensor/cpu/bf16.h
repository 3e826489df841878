// tensor/cpu/bf16.h: between fp32 and bf16.
#pragma once

#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/operands.h"
#include "tensor/cpu/scratch.h"

namespace fedit::cpu {

/// Rounds x (fp32) to nearest even into rows `stride` numbers apart at `to`, zeros behind the last
/// column. NaN stays NaN. The CPU's instructions (Operands::bf16) take denormal numbers for zeros.
void round_rows_to_bf16(Operands operands, std::uint16_t* to, std::int64_t stride, TensorView x);
/// x so rounded, dense, in `scratch`.
const std::uint16_t* round_to_bf16(int threads, Operands operands, Scratch& scratch, TensorView x);

/// The fp32 values of `count` bf16 numbers, which may lie at any address.
void widen_bf16(int threads, float* to, const void* from, std::int64_t count);

}  // namespace fedit::cpu
