// tensor/cpu/tile_products.h: bf16 products with packed weights, in AMX's tile registers. A row's
// bits depend on nothing but the row and the weight.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/scratch.h"

namespace fedit::cpu {

/// Who multiplies tiles.
enum class TileUnit {
    amx,
    emulated,  ///< plain C++ with AMX's roundings: for tests on any CPU
};

/// Whether the CPU has AMX for bf16 and the kernel lets this process use it: asks once.
bool has_amx();

/// Bytes of packed bf16 panels of a depth x cols operand.
std::size_t tile_panel_bytes(std::int64_t depth, std::int64_t cols);

/// Packs b (depth x cols), dense bf16 numbers, and b^T (b is cols x depth) into panels.
void pack_tile_panels(int threads, std::byte* panels, const std::uint16_t* b, std::int64_t depth,
                      std::int64_t cols);
void pack_tile_panels_transposed(int threads, std::byte* panels, const std::uint16_t* b,
                                 std::int64_t depth, std::int64_t cols);

/// y = x b (+ y if accumulate): y fp32, x fp32 and rounded to bf16.
void multiply_tile_panels(int threads, TileUnit unit, Scratch& scratch, TensorView y, TensorView x,
                          const std::byte* panels, bool accumulate);

}  // namespace fedit::cpu
