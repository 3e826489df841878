// tensor/cpu/tile-inl.h: panels, and small fp32 products with them in registers; included
// once a target. The right operand is packed into panels; a result element is one chain of fused
// multiply-adds over the depth, so its bits depend on nothing but its own row and column.
#if defined(FEDIT_TENSOR_CPU_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_TILE_INL_H
#undef FEDIT_TENSOR_CPU_TILE_INL_H
#else
#define FEDIT_TENSOR_CPU_TILE_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "tensor/cpu/panels.h"
#include "tensor/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Rows of a register tile: 2 x rows accumulators, and AVX-512 has twice the registers.
inline constexpr int tile_rows = HWY_TARGET <= HWY_AVX3 ? 12 : 6;

/// Columns of a panel.
HWY_INLINE std::int64_t PanelCols() {
    return 2 * FloatLanes();
}

/// Packs scale * b (depth x cols, row major): panel j holds columns [j n, (j + 1) n) of each row in
/// turn, n = PanelCols(), zeros beyond the last column.
HWY_INLINE void PackRows(float* panels, const float* b, std::int64_t stride, std::int64_t depth,
                         std::int64_t cols, float scale) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes(), width = PanelCols();
    const auto factor = hn::Set(d, scale);
    for (std::int64_t j = 0; j < cols; j += width) {
        float* panel = panels + j * depth;
        if (j + width <= cols) {
            for (std::int64_t p = 0; p < depth; ++p) {
                const float* from = b + p * stride + j;
                hn::Store(hn::Mul(factor, hn::LoadU(d, from)), d, panel + p * width);
                hn::Store(hn::Mul(factor, hn::LoadU(d, from + lanes)), d,
                          panel + p * width + lanes);
            }
            continue;
        }
        for (std::int64_t p = 0; p < depth; ++p) {
            for (std::int64_t i = 0; i < width; ++i) {
                panel[p * width + i] = j + i < cols ? scale * b[p * stride + j + i] : 0.0F;
            }
        }
    }
}

/// Packs row p of panels of depth `depth`: element j is load(d, j), for full vectors and single
/// lanes; zeros beyond the last column.
template <class Load>
HWY_INLINE void PackRow(float* panels, std::int64_t p, std::int64_t depth, std::int64_t cols,
                        const Load& load) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes(), width = PanelCols();
    float* to = panels + p * width;
    std::int64_t j = 0;
    for (; j + width <= cols; j += width) {
        hn::Store(load(d, j), d, to);
        hn::Store(load(d, j + lanes), d, to + lanes);
        to += depth * width;
    }
    if (j == cols) return;
    std::fill_n(to, width, 0.0F);
    for (; j < cols; ++j) *to++ = hn::GetLane(load(OneFloat(), j));
}

/// Transposes the 4 x 4 block at `from` (rows `stride` apart) into `to` (rows `width` apart).
HWY_INLINE void Transpose4x4(float* to, std::int64_t width, const float* from, std::int64_t stride,
                             float scale) {
    const hn::CappedTag<float, 4> d;
    const hn::RepartitionToWide<decltype(d)> wide;
    const auto factor = hn::Set(d, scale);
    const auto r0 = hn::Mul(factor, hn::LoadU(d, from));
    const auto r1 = hn::Mul(factor, hn::LoadU(d, from + stride));
    const auto r2 = hn::Mul(factor, hn::LoadU(d, from + 2 * stride));
    const auto r3 = hn::Mul(factor, hn::LoadU(d, from + 3 * stride));
    const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
    const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
    const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
    const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, low01, low23)), d, to);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23)), d, to + width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, high01, high23)), d, to + 2 * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23)), d, to + 3 * width);
}

/// Packs scale * b^T, where b is (cols x depth), row major: element (p, j) is b[j * stride + p].
HWY_INLINE void PackTransposed(float* panels, const float* b, std::int64_t stride,
                               std::int64_t depth, std::int64_t cols, float scale) {
    const std::int64_t width = PanelCols();
    for (std::int64_t j = 0; j < cols; j += 4) {
        float* panel = panels + j / width * width * depth + j % width;
        const float* from = b + j * stride;
        std::int64_t p = 0;
        if (j + 4 <= cols) {
            for (; p + 4 <= depth; p += 4) {
                Transpose4x4(panel + p * width, width, from + p, stride, scale);
            }
        }
        for (; p < depth; ++p) {
            for (std::int64_t i = 0; i < 4; ++i) {
                panel[p * width + i] = j + i < cols ? scale * from[i * stride + p] : 0.0F;
            }
        }
    }
    for (std::int64_t j = (cols + 3) / 4 * 4; j % width != 0; j += 4) {
        float* panel = panels + j / width * width * depth + j % width;
        for (std::int64_t p = 0; p < depth; ++p) std::fill_n(panel + p * width, 4, 0.0F);
    }
}

/// The left operand: element (i, p) is data[i * row_stride + p * depth_stride].
struct LeftOperand {
    const float* data;
    std::int64_t row_stride, depth_stride;
};

/// What becomes of the result.
enum class Result { write, add };

/// R x PanelCols() elements of c from one panel.
template <int R>
HWY_INLINE void MultiplyTile(std::int64_t depth, const LeftOperand& a,
                             const float* HWY_RESTRICT panel, float* HWY_RESTRICT c,
                             std::int64_t stride, Result result) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    hn::Vec<FloatTag> low[R], high[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        const bool add = result == Result::add;
        low[r] = add ? hn::LoadU(d, c + r * stride) : hn::Zero(d);
        high[r] = add ? hn::LoadU(d, c + r * stride + lanes) : hn::Zero(d);
    }
    const float* left = a.data;
    for (std::int64_t p = 0; p < depth; ++p) {
        const auto b0 = hn::Load(d, panel);
        const auto b1 = hn::Load(d, panel + lanes);
        panel += 2 * lanes;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const auto factor = hn::Set(d, left[r * a.row_stride]);
            low[r] = hn::MulAdd(factor, b0, low[r]);
            high[r] = hn::MulAdd(factor, b1, high[r]);
        }
        left += a.depth_stride;
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        hn::StoreU(low[r], d, c + r * stride);
        hn::StoreU(high[r], d, c + r * stride + lanes);
    }
}

/// A tile whose columns end inside the panel: through a buffer, so that c is not overrun.
template <int R>
HWY_INLINE void MultiplyLastTile(std::int64_t depth, const LeftOperand& a, const float* panel,
                                 float* c, std::int64_t stride, std::int64_t cols, Result result) {
    HWY_ALIGN float buffer[R * max_panel_cols];
    const std::int64_t width = PanelCols();
    if (result == Result::add) {
        std::fill_n(buffer, R * width, 0.0F);
        for (int r = 0; r < R; ++r) std::copy_n(c + r * stride, cols, buffer + r * width);
    }
    MultiplyTile<R>(depth, a, panel, buffer, width, result);
    for (int r = 0; r < R; ++r) std::copy_n(buffer + r * width, cols, c + r * stride);
}

/// R rows of c, all panels.
template <int R>
HWY_INLINE void MultiplyTileRow(std::int64_t cols, std::int64_t depth, const LeftOperand& a,
                                const float* panels, std::int64_t panel_depth, float* c,
                                std::int64_t stride, Result result) {
    const std::int64_t width = PanelCols();
    std::int64_t j = 0;
    for (; j + width <= cols; j += width) {
        MultiplyTile<R>(depth, a, panels + j * panel_depth, c + j, stride, result);
    }
    if (j < cols) {
        MultiplyLastTile<R>(depth, a, panels + j * panel_depth, c + j, stride, cols - j, result);
    }
}

/// As MultiplyTileRow, for `rows` <= R rows.
template <int R>
HWY_INLINE void MultiplyFewRows(std::int64_t rows, std::int64_t cols, std::int64_t depth,
                                const LeftOperand& a, const float* panels, std::int64_t panel_depth,
                                float* c, std::int64_t stride, Result result) {
    if constexpr (R > 1) {
        if (rows < R) {
            return MultiplyFewRows<R - 1>(rows, cols, depth, a, panels, panel_depth, c, stride,
                                          result);
        }
    }
    MultiplyTileRow<R>(cols, depth, a, panels, panel_depth, c, stride, result);
}

/// c (rows x cols) = or += a (rows x depth) times panels of depth `panel_depth` >= depth, of which
/// the first `depth` rows from `panels` on are used.
HWY_INLINE void Multiply(std::int64_t rows, std::int64_t cols, std::int64_t depth,
                         const LeftOperand& a, const float* panels, std::int64_t panel_depth,
                         float* c, std::int64_t stride, Result result) {
    for (std::int64_t i = 0; i < rows; i += tile_rows) {
        const LeftOperand part{a.data + i * a.row_stride, a.row_stride, a.depth_stride};
        MultiplyFewRows<tile_rows>(std::min<std::int64_t>(tile_rows, rows - i), cols, depth, part,
                                   panels, panel_depth, c + i * stride, stride, result);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
