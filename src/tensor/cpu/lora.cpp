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
void PackLora(Operands operands, float* a_panels, float* b_panels, const LoraSlot& adapter,
              std::int64_t in, std::int64_t out) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        PackTransposed<O>(a_panels, adapter.a, in, in, adapter.rank, 1.0F);
        PackTransposed<O>(b_panels, adapter.b, adapter.rank, adapter.rank, out, adapter.scale);
    });
}

/// A row of drop(x), in words.
void DropBlockRow(Operands operands, float* to, const float* x, std::uint8_t* keep,
                  const DropoutRow& row, std::int64_t cols, float factor) {
    DrawKeepBits(keep, row, cols, x);
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        StoreWords<O>(to, cols, [&](auto d, std::int64_t j) HWY_ATTR {
            return Dropped(d, x, keep, j, factor);
        });
    });
}

/// s = x A^T; y += s (scale B^T), for the rows of one block.
template <class O>
HWY_INLINE void MultiplyLora(TensorView y, TensorView s, const LeftOperand& x, std::int64_t in,
                             const LoraBlockPanels& panels) {
    MultiplyDeep<O>(s, words_of(O::kind, in), x, panels.a);
    const std::int64_t rank_words = words_of(O::kind, s.cols);
    Multiply<O>(y.rows, y.cols, rank_words, Left<O>(panels.s_words, s), panels.b, rank_words,
                y.floats(), y.stride, Result::add);
}

/// The same, of x itself or of the words of its dropped rows, `dropped`. Words that are made of x
/// go to `words`.
void LoraBlock(Operands operands, TensorView y, TensorView s, TensorView x, const float* dropped,
               float* words, const LoraBlockPanels& panels) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        const LeftOperand left = dropped != nullptr
                                     ? LeftOperand{dropped, word_stride(O::kind, x.cols), 1}
                                     : Left<O>(words, x);
        MultiplyLora<O>(y, s, left, x.cols, panels);
    });
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
    const Operands operands = operands_for(layer.products);
    const std::span<const LoraSlot> adapters = layer.adapters;
    const std::int64_t in = x.cols, out = layer.y.cols;
    const std::vector<RowBlock> blocks = row_blocks(slots, adapters, lora_block_rows);
    const LoraPanels panels = place_panels(adapters, in, out);
    const std::int64_t x_floats = lora_block_rows * word_stride(operands, in);
    const std::int64_t s_floats = lora_block_rows * word_stride(operands, layer.s.cols);
    const std::int64_t thread_floats = x_floats + s_floats + keep_bytes(in) / 4;
    float* const memory = scratch_.floats(panels.size + threads_ * thread_floats);

    const auto pack = HWY_DYNAMIC_DISPATCH(PackLora);
    parallel_for(threads_, slots.count(), [&](std::int64_t slot, int) noexcept {
        const auto i = static_cast<std::size_t>(slot);
        pack(operands, memory + panels.a[i], memory + panels.b[i], adapters[i], in, out);
    });

    const auto multiply = HWY_DYNAMIC_DISPATCH(LoraBlock);
    const auto drop_row = HWY_DYNAMIC_DISPATCH(DropBlockRow);
    const std::int64_t stride = word_stride(operands, in);
    const auto block_count = static_cast<std::int64_t>(blocks.size());
    parallel_for(threads_, block_count, [&](std::int64_t task, int thread) noexcept {
        const RowBlock& block = blocks[static_cast<std::size_t>(task)];
        const auto slot = static_cast<std::size_t>(block.slot);
        const std::int64_t rows = block.end - block.begin;
        const TensorView input = x.row_range(block.begin, rows);
        float* const x_words = memory + panels.size + thread * thread_floats;
        float* const s_words = x_words + x_floats;
        auto* const keep = reinterpret_cast<std::uint8_t*>(s_words + s_floats);
        const bool drops = dropout.p > 0;
        for (std::int64_t i = 0; drops && i < rows; ++i) {
            drop_row(operands, x_words + i * stride, input.row(i), keep,
                     dropout_row(dropout, layer.module, block.slot, block.begin + i), in,
                     dropout.factor());
        }
        multiply(operands, layer.y.row_range(block.begin, rows),
                 layer.s.row_range(block.begin, rows).columns(0, adapters[slot].rank), input,
                 drops ? x_words : nullptr, x_words,
                 {memory + panels.a[slot], memory + panels.b[slot], s_words});
    });
}

}  // namespace fedit::cpu
#endif
