// tensor/cpu/tile-inl.h: panels, and small products with them in registers; included once a target.
// The right operand is packed into panels; a result element is one chain of fused multiply-adds
// over the depth, so its bits depend on nothing but its own row and column.
#if defined(FEDIT_TENSOR_CPU_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef FEDIT_TENSOR_CPU_TILE_INL_H
#undef FEDIT_TENSOR_CPU_TILE_INL_H
#else
#define FEDIT_TENSOR_CPU_TILE_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "tensor/cpu/operands-inl.h"
#include "tensor/cpu/panels.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Rows of a register tile: 2 x rows accumulators, and AVX-512 has twice the registers.
inline constexpr int tile_rows = HWY_TARGET <= HWY_AVX3 ? 12 : 6;

/// Columns of a panel.
HWY_INLINE std::int64_t PanelCols() {
    return 2 * FloatLanes();
}

/// Packs row p of panels of depth `depth`, in words: word j is load(d, j), for full vectors and
/// single lanes; zeros beyond the last column.
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

/// Packs rows into panels of depth `depth`, in words. load_row(t) gives the load(d, j) of a row.
template <class O, class LoadRow>
HWY_INLINE void PackRowsOf(float* panels, std::int64_t rows, std::int64_t cols, std::int64_t depth,
                           const LoadRow& load_row) {
    constexpr std::int64_t step = O::kind == Operands::fp32 ? 1 : 2;
    for (std::int64_t t = 0; t < rows; t += step) {
        const auto first = load_row(t);
        if constexpr (step == 1) {
            PackRow(panels, t, depth, cols, first);
        } else if (t + 1 < rows) {
            const auto second = load_row(t + 1);
            PackRow(panels, t / 2, depth, cols, [first, second](auto d, std::int64_t j) HWY_ATTR {
                return O::Zip(d, first(d, j), second(d, j));
            });
        } else {
            PackRow(panels, t / 2, depth, cols, [first](auto d, std::int64_t j) HWY_ATTR {
                return O::Zip(d, first(d, j), hn::Zero(d));
            });
        }
    }
}

/// Packs scale * b (depth x cols, row major): panel j holds columns [j n, (j + 1) n) of each row of
/// words in turn, n = PanelCols(), zeros beyond the last column.
template <class O>
HWY_INLINE void PackRows(float* panels, const float* b, std::int64_t stride, std::int64_t depth,
                         std::int64_t cols, float scale) {
    const std::int64_t width = PanelCols(), words = words_of(O::kind, depth);
    for (std::int64_t begin = 0; begin < cols; begin += width) {  // panel by panel: in long runs
        PackRowsOf<O>(panels + begin * words, depth, std::min(width, cols - begin), words,
                      [b, stride, begin, scale](std::int64_t p) {
                          const float* const from = b + p * stride + begin;
                          return [from, scale](auto d, std::int64_t j) HWY_ATTR {
                              return hn::Mul(hn::Set(d, scale), hn::LoadU(d, from + j));
                          };
                      });
    }
}

/// Transposes the 4 x 4 block at `from` (rows `stride` apart) into `to` (rows `width` apart).
HWY_INLINE void Transpose4x4(float* to, std::int64_t width, const float* from,
                             std::int64_t stride) {
    const hn::CappedTag<float, 4> d;
    const hn::RepartitionToWide<decltype(d)> wide;
    const auto r0 = hn::LoadU(d, from);
    const auto r1 = hn::LoadU(d, from + stride);
    const auto r2 = hn::LoadU(d, from + 2 * stride);
    const auto r3 = hn::LoadU(d, from + 3 * stride);
    const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, r0, r1));
    const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, r2, r3));
    const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, r0, r1));
    const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, r2, r3));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, low01, low23)), d, to);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23)), d, to + width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, high01, high23)), d, to + 2 * width);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23)), d, to + 3 * width);
}

/// Numbers of a row whose words are transposed at a time, and that many words.
inline constexpr std::int64_t transposed_depth = 128;

/// Packs scale * b^T, where b is (cols x depth), row major: element (p, j) is b[j * stride + p].
template <class O>
HWY_INLINE void PackTransposed(float* panels, const float* b, std::int64_t stride,
                               std::int64_t depth, std::int64_t cols, float scale) {
    HWY_ALIGN float words[4 * transposed_depth];
    const std::int64_t width = PanelCols(), panel_depth = words_of(O::kind, depth);
    const std::int64_t padded = (cols + width - 1) / width * width;
    for (std::int64_t j = 0; j < padded; j += 4) {
        float* panel = panels + j / width * width * panel_depth + j % width;
        for (std::int64_t p = 0; p < depth; p += transposed_depth) {
            const std::int64_t count = std::min(transposed_depth, depth - p);
            for (std::int64_t i = 0; i < 4; ++i) {
                float* const row = words + i * transposed_depth;
                if (j + i >= cols) {
                    std::fill_n(row, transposed_depth, 0.0F);
                    continue;
                }
                const float* const from = b + (j + i) * stride + p;
                StoreWords<O>(row, count, [&](auto d, std::int64_t q) HWY_ATTR {
                    return hn::Mul(hn::Set(d, scale), hn::LoadU(d, from + q));
                });
            }
            const std::int64_t rows = words_of(O::kind, count);
            std::int64_t q = 0;
            for (; q + 4 <= rows; q += 4) {
                Transpose4x4(panel + q * width, width, words + q, transposed_depth);
            }
            for (; q < rows; ++q) {
                for (std::int64_t i = 0; i < 4; ++i) {
                    panel[q * width + i] = words[i * transposed_depth + q];
                }
            }
            panel += rows * width;
        }
    }
}

/// What becomes of the result.
enum class Result { write, add };

/// R rows of c, V vectors each, from one panel.
template <class O, int R, int V>
HWY_INLINE void MultiplyTile(std::int64_t depth, const LeftOperand& a,
                             const float* HWY_RESTRICT panel, float* HWY_RESTRICT c,
                             std::int64_t stride, Result result) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    hn::Vec<FloatTag> sum[R * V];
#pragma GCC unroll 24
    for (int i = 0; i < R * V; ++i) {
        const float* const from = c + i / V * stride + i % V * lanes;
        sum[i] = result == Result::add ? hn::LoadU(d, from) : hn::Zero(d);
    }
    const float* left = a.data;
    for (std::int64_t p = 0; p < depth; ++p) {
        const auto b0 = hn::Load(d, panel);
        const auto b1 = V > 1 ? hn::Load(d, panel + lanes) : b0;
        panel += 2 * lanes;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const auto factor = hn::Set(d, left[r * a.row_stride]);
            sum[r * V] = O::MulAdd(factor, b0, sum[r * V]);
            if constexpr (V > 1) sum[r * V + 1] = O::MulAdd(factor, b1, sum[r * V + 1]);
        }
        left += a.depth_stride;
    }
#pragma GCC unroll 24
    for (int i = 0; i < R * V; ++i) hn::StoreU(sum[i], d, c + i / V * stride + i % V * lanes);
}

/// A tile whose columns end inside its vectors: through a buffer, so that c is not overrun.
template <class O, int R, int V>
HWY_INLINE void MultiplyLastTile(std::int64_t depth, const LeftOperand& a, const float* panel,
                                 float* c, std::int64_t stride, std::int64_t cols, Result result) {
    HWY_ALIGN float buffer[R * max_panel_cols];
    const std::int64_t width = V * FloatLanes();
    if (result == Result::add) {
        std::fill_n(buffer, R * width, 0.0F);
        for (int r = 0; r < R; ++r) std::copy_n(c + r * stride, cols, buffer + r * width);
    }
    MultiplyTile<O, R, V>(depth, a, panel, buffer, width, result);
    for (int r = 0; r < R; ++r) std::copy_n(buffer + r * width, cols, c + r * stride);
}

/// R rows of c, all panels. Of the last panel half is enough for few columns (a small rank).
template <class O, int R>
HWY_INLINE void MultiplyTileRow(std::int64_t cols, std::int64_t depth, const LeftOperand& a,
                                const float* panels, std::int64_t panel_depth, float* c,
                                std::int64_t stride, Result result) {
    const std::int64_t lanes = FloatLanes(), width = PanelCols();
    std::int64_t j = 0;
    for (; j + width <= cols; j += width) {
        MultiplyTile<O, R, 2>(depth, a, panels + j * panel_depth, c + j, stride, result);
    }
    const std::int64_t rest = cols - j;
    const float* const panel = panels + j * panel_depth;
    if (rest > lanes) {
        MultiplyLastTile<O, R, 2>(depth, a, panel, c + j, stride, rest, result);
    } else if (rest == lanes) {
        MultiplyTile<O, R, 1>(depth, a, panel, c + j, stride, result);
    } else if (rest > 0) {
        MultiplyLastTile<O, R, 1>(depth, a, panel, c + j, stride, rest, result);
    }
}

/// As MultiplyTileRow, for `rows` <= R rows.
template <class O, int R>
HWY_INLINE void MultiplyFewRows(std::int64_t rows, std::int64_t cols, std::int64_t depth,
                                const LeftOperand& a, const float* panels, std::int64_t panel_depth,
                                float* c, std::int64_t stride, Result result) {
    if constexpr (R > 1) {
        if (rows < R) {
            return MultiplyFewRows<O, R - 1>(rows, cols, depth, a, panels, panel_depth, c, stride,
                                             result);
        }
    }
    MultiplyTileRow<O, R>(cols, depth, a, panels, panel_depth, c, stride, result);
}

/// c (rows x cols) = or += a (rows x depth, in words) times panels of depth `panel_depth` >= depth,
/// of which the first `depth` rows from `panels` on are used.
template <class O>
HWY_INLINE void Multiply(std::int64_t rows, std::int64_t cols, std::int64_t depth,
                         const LeftOperand& a, const float* panels, std::int64_t panel_depth,
                         float* c, std::int64_t stride, Result result) {
    for (std::int64_t i = 0; i < rows; i += tile_rows) {
        MultiplyFewRows<O, tile_rows>(std::min<std::int64_t>(tile_rows, rows - i), cols, depth,
                                      a.rows_from(i), panels, panel_depth, c + i * stride, stride,
                                      result);
    }
}

/// Depth, in words, at which a long sum is cut, so that the panels in use stay in L1.
inline constexpr std::int64_t deep_block = 256;

/// c = a (c.rows x depth, in words) times panels of that depth, a part of the depth after the
/// other.
template <class O>
HWY_INLINE void MultiplyDeep(TensorView c, std::int64_t depth, const LeftOperand& a,
                             const float* panels) {
    for (std::int64_t p = 0; p < depth; p += deep_block) {
        Multiply<O>(c.rows, c.cols, std::min(deep_block, depth - p), a.depth_from(p),
                    panels + p * PanelCols(), depth, c.floats(), c.stride,
                    p == 0 ? Result::write : Result::add);
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
