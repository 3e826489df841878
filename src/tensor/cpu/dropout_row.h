// tensor/cpu/dropout_row.h: what decides the dropout mask of one row.
#pragma once

#include <cmath>
#include <cstdint>

#include "fedit/tensor/backend.h"

namespace fedit::cpu {

struct DropoutRow {
    std::uint64_t key = 0;
    std::uint32_t module = 0;
    std::uint64_t counter = 0;
    std::uint32_t threshold = 0;  ///< a 32-bit word below it drops its element
};

/// word / 2^32 >= p exactly when word >= this.
inline std::uint32_t drop_threshold(float p) {
    return static_cast<std::uint32_t>(std::ceil(static_cast<double>(p) * 4294967296.0));
}

inline DropoutRow dropout_row(const Dropout& dropout, std::int64_t slot, std::int64_t row) {
    return {
        .key = dropout.slot_key[static_cast<std::size_t>(slot)],
        .module = dropout.module,
        .counter = static_cast<std::uint64_t>(dropout.row_counter[static_cast<std::size_t>(row)]),
        .threshold = drop_threshold(dropout.p)};
}

/// Bytes of a row's keep bits, with room for the last vector.
constexpr std::int64_t keep_bytes(std::int64_t cols) {
    return (cols / 4 + 1 + 63) / 64 * 64;
}

}  // namespace fedit::cpu
