// tensor/cpu/operands.h: what the operands of attention's and the adapters' products are.
#pragma once

#include <cstdint>

namespace fedit::cpu {

/// What operands are rounded to, and what multiplies them. Sums are in fp32 always.
enum class Operands {
    fp32,
    bf16,           ///< the CPU's bf16 instructions
    emulated_bf16,  ///< the same numbers by fp32 instructions: for tests on any CPU
};

/// 32-bit words that hold `count` numbers along the depth of a product, whatever they are.
constexpr std::int64_t words_of(Operands operands, std::int64_t count) {
    return operands == Operands::fp32 ? count : (count + 1) / 2;
}

/// Words between rows of words: one cache line more than they fill, since rows that are a multiple
/// of 4 KiB apart share a few lines of L1.
constexpr std::int64_t word_stride(Operands operands, std::int64_t count) {
    return (words_of(operands, count) + 15) / 16 * 16 + 16;
}

}  // namespace fedit::cpu
