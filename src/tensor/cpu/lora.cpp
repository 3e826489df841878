// tensor/cpu/lora.cpp: adapters, forward.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/lora.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/cpu/dropout-inl.h"
#include "tensor/cpu/lora_blocks.h"
#include "tensor/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Panels of A^T (in x rank) and of scale B^T (rank x out).
void PackLora(float* a_panels, float* b_panels, const LoraSlot& adapter, std::int64_t in,
              std::int64_t out) {
    PackTransposed(a_panels, adapter.a, in, in, adapter.rank, 1.0F);
    PackTransposed(b_panels, adapter.b, adapter.rank, adapter.rank, out, adapter.scale);
}

void DropBlockRow(float* to, const float* x, std::uint8_t* keep, const DropoutRow& row,
                  std::int64_t cols, float factor) {
    DrawKeepBits(keep, row, cols, x);
    DropRow(to, x, keep, cols, factor);
}

/// s = x A^T; y += s (scale B^T), for the rows of one block.
void LoraBlock(TensorView y, TensorView s, TensorView x, const float* a_panels,
               const float* b_panels) {
    const std::int64_t rank = s.cols, in = x.cols;
    for (std::int64_t p = 0; p < in; p += lora_block_depth) {
        Multiply(x.rows, rank, std::min(lora_block_depth, in - p), {x.floats() + p, x.stride, 1},
                 a_panels + p * PanelCols(), in, s.floats(), s.stride,
                 p == 0 ? Result::write : Result::add);
    }
    Multiply(y.rows, y.cols, rank, {s.floats(), s.stride, 1}, b_panels, rank, y.floats(), y.stride,
             Result::add);
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(PackLora);
HWY_EXPORT(DropBlockRow);
HWY_EXPORT(LoraBlock);

namespace {

/// Where each slot's panels are in the scratch memory.
struct LoraPanels {
    std::vector<std::int64_t> a, b;
    std::int64_t size = 0;
};

LoraPanels place_panels(std::span<const LoraSlot> adapters, std::int64_t in, std::int64_t out) {
    LoraPanels panels;
    for (const LoraSlot& adapter : adapters) {
        panels.a.push_back(panels.size);
        panels.size += aligned_floats(panel_floats(in, adapter.rank));
        panels.b.push_back(panels.size);
        panels.size += aligned_floats(panel_floats(adapter.rank, out));
    }
    return panels;
}

}  // namespace

void CpuBackend::lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                      const Dropout& dropout, const Rotary& rotary) {
    check::lora(layers, x, slots, dropout, rotary);
    check::only_fp32("lora", {x});
    for (const LoraLayer& layer : layers) {
        lora_of(layer, x, slots, dropout);
        if (layer.turned_heads > 0) rope(layer.y, layer.turned_heads, rotary, /*inverse=*/false);
    }
}

void CpuBackend::lora_of(const LoraLayer& layer, TensorView x, const Slots& slots,
                         const Dropout& dropout) {
    const std::span<const LoraSlot> adapters = layer.adapters;
    const std::int64_t in = x.cols, out = layer.y.cols;
    const std::vector<RowBlock> blocks = row_blocks(slots, adapters, lora_block_rows);
    const LoraPanels panels = place_panels(adapters, in, out);
    const bool drops = dropout.p > 0;
    const std::int64_t dropped_floats = drops ? aligned_floats(lora_block_rows * in) : 0;
    float* const memory =
        scratch_.floats(panels.size + threads_ * (dropped_floats + keep_bytes(in) / 4));
    float* const dropped = memory + panels.size;
    auto* const keep = reinterpret_cast<std::uint8_t*>(dropped + threads_ * dropped_floats);

    const auto pack = HWY_DYNAMIC_DISPATCH(PackLora);
    parallel_for(threads_, slots.count(), [&](std::int64_t slot, int) noexcept {
        const auto i = static_cast<std::size_t>(slot);
        pack(memory + panels.a[i], memory + panels.b[i], adapters[i], in, out);
    });

    const auto multiply = HWY_DYNAMIC_DISPATCH(LoraBlock);
    const auto drop_row = HWY_DYNAMIC_DISPATCH(DropBlockRow);
    const float factor = dropout.factor();
    const auto block_count = static_cast<std::int64_t>(blocks.size());
    parallel_for(threads_, block_count, [&](std::int64_t task, int thread) noexcept {
        const RowBlock& block = blocks[static_cast<std::size_t>(task)];
        const auto slot = static_cast<std::size_t>(block.slot);
        const std::int64_t rows = block.end - block.begin;
        TensorView input = x.row_range(block.begin, rows);
        if (drops) {
            const TensorView kept = fp32_view(dropped + thread * dropped_floats, rows, in);
            for (std::int64_t i = 0; i < rows; ++i) {
                drop_row(kept.row(i), input.row(i), keep + thread * keep_bytes(in),
                         dropout_row(dropout, layer.module, block.slot, block.begin + i), in,
                         factor);
            }
            input = kept;
        }
        multiply(layer.y.row_range(block.begin, rows),
                 layer.s.row_range(block.begin, rows).columns(0, adapters[slot].rank), input,
                 memory + panels.a[slot], memory + panels.b[slot]);
    });
}

}  // namespace fedit::cpu
#endif
