// tensor/cpu/panel_products.h: fp32 products whose right operand is packed into panels
// (tile-inl.h). An element is a sum of chains of fused multiply-adds, one for each
// panel_block_depth of the depth in turn, so its bits depend on its own row and column alone: not
// on threads, and not on the other rows.
#pragma once

#include <cstdint>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/panels.h"
#include "tensor/cpu/scratch.h"

namespace fedit::cpu {

/// Panels of b (depth x cols): panel_floats(depth, cols) floats, 64-byte aligned.
void pack_panels(int threads, float* panels, TensorView b);
/// Panels of b^T.
void pack_panels_transposed(int threads, float* panels, TensorView b);

/// y (+)= x b, from panels of b (x.cols x y.cols).
void multiply_panels(int threads, Scratch& scratch, TensorView y, TensorView x, const float* panels,
                     bool accumulate);

/// dw += dy^T x.
void add_outer_product(int threads, Scratch& scratch, TensorView dw, TensorView dy, TensorView x);

}  // namespace fedit::cpu
