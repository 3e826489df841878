// tensor/cpu/dropout_row.h: what decides the dropout mask of one row.
#pragma once

#include <cstdint>

#include "fedit/tensor/backend.h"

namespace fedit::cpu {

struct DropoutRow {
    std::uint64_t key = 0;
    std::uint32_t module = 0;
    std::uint64_t counter = 0;
    std::uint16_t threshold = 0;  ///< 16 bits below it drop their element
};

inline DropoutRow dropout_row(const Dropout& dropout, std::uint32_t module, std::int64_t slot,
                              std::int64_t row) {
    return {
        .key = dropout.slot_key[static_cast<std::size_t>(slot)],
        .module = module,
        .counter = static_cast<std::uint64_t>(dropout.row_counter[static_cast<std::size_t>(row)]),
        .threshold = static_cast<std::uint16_t>(dropout.threshold())};
}

/// Bytes of a row's keep bits, with room for the last vector and for reading 8 bytes at any.
constexpr std::int64_t keep_bytes(std::int64_t cols) {
    return (cols / 8 + 8 + 63) / 64 * 64;
}

}  // namespace fedit::cpu
