// tensor/cpu/panel_products.cpp: the right operand's panels pass through L1 while a block of the
// left one stays in L2 (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/panel_products.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "fedit/tensor/tensor.h"
#include "tensor/cpu/panel_blocks.h"
#include "tensor/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Columns of a piece of a strip, and a piece's floats.
inline constexpr int piece_cols = 8;
inline constexpr int piece_floats = tile_rows * piece_cols;

/// Packs x into strips of tile_rows rows, these in pieces: rows are copied in long runs, and the
/// tile reads a strip from begin to end. Columns beyond the last are left as they are.
void PackStrips(float* strips, TensorView x) {
    const hn::CappedTag<float, piece_cols> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const std::int64_t pieces = (x.cols + piece_cols - 1) / piece_cols;
    for (std::int64_t t = 0; t < x.rows; ++t) {
        const float* const from = x.row(t);
        float* to = strips + t / tile_rows * pieces * piece_floats + t % tile_rows * piece_cols;
        std::int64_t p = 0;
        for (; p + piece_cols <= x.cols; p += piece_cols) {
            for (std::int64_t q = 0; q < piece_cols; q += lanes) {
                hn::StoreU(hn::LoadU(d, from + p + q), d, to + q);
            }
            to += piece_floats;
        }
        std::copy_n(from + p, x.cols - p, to);
    }
}

/// The strips of x^T.
void PackStripsTransposed(float* strips, TensorView x) {
    const std::int64_t pieces = (x.rows + piece_cols - 1) / piece_cols;
    for (std::int64_t t = 0; t < x.rows; ++t) {
        const float* const from = x.row(t);
        float* const piece = strips + t / piece_cols * piece_floats + t % piece_cols;
        for (std::int64_t i = 0; i < x.cols; i += tile_rows) {
            float* const to = piece + i / tile_rows * pieces * piece_floats;
            const std::int64_t rows = std::min<std::int64_t>(tile_rows, x.cols - i);
            for (std::int64_t r = 0; r < rows; ++r) to[r * piece_cols] = from[i + r];
        }
    }
}

/// Adds the product of column q of a piece and row q of a panel.
template <int R>
HWY_INLINE void AddOuter(hn::Vec<FloatTag> (&low)[R], hn::Vec<FloatTag> (&high)[R],
                         const float* HWY_RESTRICT piece, const float* HWY_RESTRICT panel, int q) {
    const FloatTag d;
    const std::int64_t lanes = FloatLanes();
    const auto b0 = hn::Load(d, panel + 2 * lanes * q);
    const auto b1 = hn::Load(d, panel + 2 * lanes * q + lanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        const auto factor = hn::Set(d, piece[r * piece_cols + q]);
        low[r] = hn::MulAdd(factor, b0, low[r]);
        high[r] = hn::MulAdd(factor, b1, high[r]);
    }
}

/// R rows of c (all of a strip, or its rest) = or += strip times one panel.
template <int R>
HWY_INLINE void MultiplyStrip(TensorView c, std::int64_t depth, const float* strip,
                              const float* panel, Result result) {
    if constexpr (R > 1) {
        if (c.rows < R) return MultiplyStrip<R - 1>(c, depth, strip, panel, result);
    }
    const FloatTag d;
    const std::int64_t lanes = FloatLanes(), width = PanelCols();
    hn::Vec<FloatTag> low[R], high[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        if (result == Result::add) hwy::Prefetch(c.row(r));
        low[r] = hn::Zero(d);
        high[r] = hn::Zero(d);
    }
    std::int64_t p = 0;
    for (; p + piece_cols <= depth; p += piece_cols) {
#pragma GCC unroll 8
        for (int q = 0; q < piece_cols; ++q) AddOuter<R>(low, high, strip, panel, q);
        strip += piece_floats;
        panel += piece_cols * width;
    }
    for (int q = 0; q < depth - p; ++q) AddOuter<R>(low, high, strip, panel, q);
    HWY_ALIGN float rest[max_panel_cols];
    for (int r = 0; r < R; ++r) {
        float* const to = c.cols < width ? rest : c.row(r);
        if (result == Result::add) {
            if (c.cols < width) std::copy_n(c.row(r), c.cols, rest);
            low[r] = hn::Add(low[r], hn::LoadU(d, to));
            high[r] = hn::Add(high[r], hn::LoadU(d, to + lanes));
        }
        hn::StoreU(low[r], d, to);
        hn::StoreU(high[r], d, to + lanes);
        if (c.cols < width) std::copy_n(rest, c.cols, c.row(r));
    }
}

/// c = (if write) or += the block's strips times panels of depth `panel_depth` >= depth.
void MultiplyBlock(TensorView c, std::int64_t depth, const float* strips, const float* panels,
                   std::int64_t panel_depth, bool write) {
    const std::int64_t width = PanelCols();
    const std::int64_t strip_depth = (depth + piece_cols - 1) / piece_cols * piece_cols;
    const Result result = write ? Result::write : Result::add;
    const std::int64_t strip_count = (c.rows + tile_rows - 1) / tile_rows;
    for (std::int64_t j = 0; j < c.cols; j += width) {
        const float* const panel = panels + j * panel_depth;
        const TensorView columns = c.columns(j, std::min(width, c.cols - j));
        // Each strip asks for its share of the next panel: the jump to it comes unforeseen.
        const std::int64_t share = j + width < c.cols ? depth * width / strip_count : 0;
        for (std::int64_t strip = 0; strip < strip_count; ++strip) {
            const std::int64_t i = strip * tile_rows;
            PrefetchToL2(panel + width * panel_depth + strip * share, share);
            MultiplyStrip<tile_rows>(
                columns.row_range(i, std::min<std::int64_t>(tile_rows, c.rows - i)), depth,
                strips + i * strip_depth, panel, result);
        }
    }
}

/// Panels of b (depth x cols), or of its columns [begin, end): a whole number of panels.
void PackPanels(float* panels, TensorView b, std::int64_t begin, std::int64_t end) {
    PackRows<Fp32Operands>(panels + begin * b.rows, b.floats() + begin, b.stride, b.rows,
                           end - begin, 1.0F);
}

/// Panels of b^T, or of its columns [begin, end).
void PackPanelsTransposed(float* panels, TensorView b, std::int64_t begin, std::int64_t end) {
    PackTransposed<Fp32Operands>(panels + begin * b.cols, b.row(begin), b.stride, b.cols,
                                 end - begin, 1.0F);
}

std::int64_t PanelWidth() {
    return PanelCols();
}
std::int64_t StripRows() {
    return tile_rows;
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/cpu/panel_products.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(PackStrips);
HWY_EXPORT(PackStripsTransposed);
HWY_EXPORT(MultiplyBlock);
HWY_EXPORT(PackPanels);
HWY_EXPORT(PackPanelsTransposed);
HWY_EXPORT(PanelWidth);
HWY_EXPORT(StripRows);

namespace {

/// What an element is before products are added to it.
enum class Begin { at_zero, as_it_is };

struct Panels {
    const float* data;
    std::int64_t depth;
};

/// c = or += the left operand times `right`. pack(strips, i, rows, p, depth) packs the strips of
/// the left's rows [i, i + rows) and columns [p, p + depth). `strips`: threads * strip_floats
/// floats.
template <class Pack>
void multiply(int threads, float* strips, TensorView c, const Panels& right, Begin begin,
              const Pack& pack) {
    const std::int64_t width = HWY_DYNAMIC_DISPATCH(PanelWidth)();
    const PanelTasks tasks(c.rows, c.cols, threads, HWY_DYNAMIC_DISPATCH(StripRows)(), width);
    const auto multiply_block = HWY_DYNAMIC_DISPATCH(MultiplyBlock);
    parallel_for(threads, tasks.count(), [&](std::int64_t task, int thread) noexcept {
        const ResultBlock block = tasks.block(task);
        float* const own = strips + thread * strip_floats;
        for (std::int64_t p = 0; p < right.depth; p += panel_block_depth) {
            const std::int64_t depth = std::min(panel_block_depth, right.depth - p);
            pack(own, block.row, block.rows, p, depth);
            multiply_block(block.of(c), depth, own,
                           right.data + block.col * right.depth + p * width, right.depth,
                           p == 0 && begin == Begin::at_zero);
        }
    });
}

}  // namespace

void pack_panels(int threads, float* panels, TensorView b) {
    const auto pack = HWY_DYNAMIC_DISPATCH(PackPanels);
    parallel_blocks(
        threads, b.cols, HWY_DYNAMIC_DISPATCH(PanelWidth)(),
        [&](std::int64_t begin, std::int64_t end) noexcept { pack(panels, b, begin, end); });
}

void pack_panels_transposed(int threads, float* panels, TensorView b) {
    const auto pack = HWY_DYNAMIC_DISPATCH(PackPanelsTransposed);
    parallel_blocks(
        threads, b.rows, HWY_DYNAMIC_DISPATCH(PanelWidth)(),
        [&](std::int64_t begin, std::int64_t end) noexcept { pack(panels, b, begin, end); });
}

void multiply_panels(int threads, Scratch& scratch, TensorView y, TensorView x, const float* panels,
                     bool accumulate) {
    const Begin begin = accumulate ? Begin::as_it_is : Begin::at_zero;
    const auto pack = HWY_DYNAMIC_DISPATCH(PackStrips);
    multiply(
        threads, scratch.floats(threads * strip_floats), y, {panels, x.cols}, begin,
        [&](float* strips, std::int64_t i, std::int64_t rows, std::int64_t p,
            std::int64_t depth) noexcept { pack(strips, x.row_range(i, rows).columns(p, depth)); });
}

void add_outer_product(int threads, Scratch& scratch, TensorView dw, TensorView dy, TensorView x) {
    const auto pack = HWY_DYNAMIC_DISPATCH(PackStripsTransposed);
    const std::int64_t slab = std::min(dy.rows, outer_rows(x.cols));
    float* const strips = scratch.floats(threads * strip_floats + panel_floats(slab, x.cols));
    float* const panels = strips + threads * strip_floats;
    for (std::int64_t first = 0; first < dy.rows; first += slab) {
        const std::int64_t rows = std::min(slab, dy.rows - first);
        pack_panels(threads, panels, x.row_range(first, rows));
        multiply(threads, strips, dw, {panels, rows}, Begin::as_it_is,
                 [&](float* to, std::int64_t i, std::int64_t count, std::int64_t p,
                     std::int64_t depth) noexcept {
                     pack(to, dy.row_range(first + p, depth).columns(i, count));
                 });
    }
}

}  // namespace fedit::cpu
#endif
