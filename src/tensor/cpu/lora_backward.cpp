// tensor/cpu/lora_backward.cpp: adapters, backward: ds, dx and partial gradients of groups of rows,
// each row read once, then the sums of these (da, db).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/lora_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "tensor/cpu/dropout-inl.h"
#include "tensor/cpu/lora_blocks.h"
#include "tensor/cpu/lora_gradient.h"
#include "tensor/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::cpu::HWY_NAMESPACE {

/// Panels of scale B (out x rank) and of A (rank x in).
void PackLoraBackward(Operands operands, float* b_panels, float* a_panels, const LoraSlot& adapter,
                      std::int64_t in, std::int64_t out) {
    WithOperands(operands, [&]<class O>(O) HWY_ATTR {
        PackRows<O>(b_panels, adapter.b, adapter.rank, out, adapter.rank, adapter.scale);
        PackRows<O>(a_panels, adapter.a, in, adapter.rank, in, 1.0F);
    });
}

/// dx += drop'(ds A) for at most tile_rows rows; `depth` is the rank in words.
template <class O>
HWY_INLINE void AddDroppedProduct(TensorView dx, const LeftOperand& ds, std::int64_t depth,
                                  const float* a_panels, const KeepBits& keep) {
    HWY_ALIGN float product[tile_rows * max_panel_cols];
    const std::int64_t width = PanelCols();
    for (std::int64_t j = 0; j < dx.cols; j += width) {
        const std::int64_t cols = std::min(width, dx.cols - j);
        Multiply<O>(dx.rows, width, depth, ds, a_panels + j * depth, depth, product, width,
                    Result::write);
        for (std::int64_t i = 0; i < dx.rows; ++i) {
            AddDroppedRow(dx.row(i) + j, product + i * width, keep.bytes + i * keep.stride + j / 8,
                          cols, keep.factor);
        }
    }
}

/// The panels of a block of rows, which are dropped first where `keep` is given.
template <class O>
HWY_INLINE void PackBlock(float* panels, TensorView x, const KeepBits& keep) {
    const std::int64_t depth = words_of(O::kind, block_panel_depth);
    if (keep.bytes == nullptr) {
        PackRowsOf<O>(panels, x.rows, x.cols, depth, [x](std::int64_t t) {
            const float* const from = x.row(t);
            return [from](auto d, std::int64_t j) HWY_ATTR { return hn::LoadU(d, from + j); };
        });
    } else {
        PackRowsOf<O>(panels, x.rows, x.cols, depth, [x, keep](std::int64_t t) {
            const float* const from = x.row(t);
            const std::uint8_t* const kept = keep.bytes + t * keep.stride;
            return [from, kept, factor = keep.factor](auto d, std::int64_t j)
                       HWY_ATTR { return Dropped(d, from, kept, j, factor); };
        });
    }
}

/// A block of rows as left operand in bf16, and in panels: both from one reading.
template <class O>
HWY_INLINE LeftOperand LeftAndPanels(const GradientGroup& group, TensorView x) {
    const std::int64_t stride = word_stride(O::kind, x.cols);
    float* const words = group.words;
    const auto halves = [words, stride](std::int64_t t) {
        return reinterpret_cast<std::uint16_t*>(words + t * stride);
    };
    PackRowsOf<O>(group.panels, x.rows, x.cols, words_of(O::kind, block_panel_depth),
                  [x, halves](std::int64_t t) {
                      return [from = x.row(t), to = halves(t)](auto d, std::int64_t j) HWY_ATTR {
                          const auto numbers = hn::LoadU(d, from + j);
                          O::Store(d, numbers, to + j);
                          return numbers;
                      };
                  });
    for (std::int64_t t = 0; t < x.rows; ++t) FillLastWord(halves(t), x.cols);
    return {words, stride, 1};
}

/// ds = dy (scale B); db = or += s^T dy, for a block of rows.
template <class O>
HWY_INLINE void BlockOfDs(TensorView ds, TensorView dy, TensorView s, const GradientGroup& group,
                          Result result) {
    const std::int64_t rank = ds.cols, out = dy.cols;
    constexpr bool fp32 = O::kind == Operands::fp32;
    LeftOperand left{dy.floats(), dy.stride, 1};
    if constexpr (!fp32) left = LeftAndPanels<O>(group, dy);
    MultiplyDeep<O>(ds, words_of(O::kind, out), left, group.b_panels);
    // The product has brought dy near: packed before it, the panels would be far again.
    if constexpr (fp32) PackBlock<O>(group.panels, dy, KeepBits{});
    Multiply<O>(rank, out, words_of(O::kind, dy.rows), LeftTransposed<O>(group.words, s),
                group.panels, words_of(O::kind, block_panel_depth), group.db, out, result);
}

/// da = or += ds^T drop(x), for a block of rows.
template <class O>
HWY_INLINE void BlockOfDa(TensorView x, TensorView ds, const KeepBits& keep,
                          const GradientGroup& group, Result result) {
    PackBlock<O>(group.panels, x, keep);
    Multiply<O>(ds.cols, x.cols, words_of(O::kind, x.rows), LeftTransposed<O>(group.words, ds),
                group.panels, words_of(O::kind, block_panel_depth), group.da, x.cols, result);
}

/// dx += drop'(ds A), for a block of rows.
template <class O>
HWY_INLINE void BlockOfDx(TensorView dx, TensorView ds, const KeepBits& keep,
                          const GradientGroup& group) {
    const std::int64_t depth = words_of(O::kind, ds.cols);
    const LeftOperand left = Left<O>(group.words, ds);
    if (keep.bytes == nullptr) {
        Multiply<O>(dx.rows, dx.cols, depth, left, group.a_panels, depth, dx.floats(), dx.stride,
                    Result::add);
        return;
    }
    for (std::int64_t i = 0; i < dx.rows; i += tile_rows) {
        AddDroppedProduct<O>(dx.row_range(i, std::min<std::int64_t>(tile_rows, dx.rows - i)),
                             left.rows_from(i), depth, group.a_panels,
                             {keep.bytes + i * keep.stride, keep.stride, keep.factor});
    }
}

/// ds, dx and a partial gradient of the rows of one group.
void LoraBackwardGroup(const LoraBackward& call, const RowBlock& group_rows,
                       const GradientGroup& group) {
    const std::int64_t rank = call.adapter(group_rows.slot).rank;
    KeepBits keep;
    if (call.dropout.p > 0) keep = {group.keep, keep_bytes(call.x.cols), call.dropout.factor()};
    for (std::int64_t t = group_rows.begin; t < group_rows.end; t += lora_block_rows) {
        const std::int64_t rows = std::min(lora_block_rows, group_rows.end - t);
        const Result result = t == group_rows.begin ? Result::write : Result::add;
        for (std::int64_t i = 0; keep.bytes != nullptr && i < rows; ++i) {
            DrawKeepBits(group.keep + i * keep.stride,
                         dropout_row(call.dropout, call.module, group_rows.slot, t + i),
                         call.x.cols, call.x.row(t + i));
        }
        const TensorView ds = call.ds.row_range(t, rows).columns(0, rank);
        const TensorView s = call.s.row_range(t, rows).columns(0, rank);
        WithOperands(call.operands, [&]<class O>(O) HWY_ATTR {
            BlockOfDs<O>(ds, call.dy.row_range(t, rows), s, group, result);
            BlockOfDa<O>(call.x.row_range(t, rows), ds, keep, group, result);
            if (call.dx.data != nullptr) BlockOfDx<O>(call.dx.row_range(t, rows), ds, keep, group);
        });
    }
}

/// sum (rank x cols) = the sum over `groups` partial gradients, `step` floats apart; their rows are
/// `stride` apart.
void SumPartialGradients(float* sum, const float* partial, std::int64_t step, std::int64_t groups,
                         std::int64_t rank, std::int64_t stride, std::int64_t cols) {
    for (std::int64_t r = 0; r < rank; ++r) {
        ForEach(cols, [&](auto d, std::int64_t j) HWY_ATTR {
            const float* from = partial + r * stride + j;
            auto total = hn::LoadU(d, from);
            for (std::int64_t g = 1; g < groups; ++g) {
                from += step;
                total = hn::Add(total, hn::LoadU(d, from));
            }
            hn::StoreU(total, d, sum + r * gradient_block_cols + j);
        });
    }
}

}  // namespace fedit::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

HWY_EXPORT(PackLoraBackward);
HWY_EXPORT(LoraBackwardGroup);
HWY_EXPORT(SumPartialGradients);

namespace {

/// Which gradient a task adds to.
enum class Factor { a, b };

/// Columns [begin, end) of da (r x in), or rows of db (out x r), from the partial gradients of a
/// part of a slot's rows.
struct GradientTask {
    std::int64_t slot;
    const float* partial;
    std::int64_t groups;
    Factor factor;
    std::int64_t begin, end;
};

void add_gradient(const LoraSlot& adapter, const GradientTask& task, const float* sum,
                  std::int64_t in) {
    for (std::int64_t r = 0; r < adapter.rank; ++r) {
        const float* row = sum + r * gradient_block_cols;
        for (std::int64_t j = task.begin; j < task.end; ++j) {
            if (task.factor == Factor::a) {
                adapter.da[r * in + j] += row[j - task.begin];
            } else {
                adapter.db[j * adapter.rank + r] += adapter.scale * row[j - task.begin];
            }
        }
    }
}

/// Rows of one slot that are worked on together, and where their partial gradients begin.
struct Part {
    RowBlock rows;
    std::int64_t partial;  ///< in floats
    std::int64_t groups() const {
        return (rows.end - rows.begin + gradient_group_rows - 1) / gradient_group_rows;
    }
};

/// Parts that are worked on together. No two are of one slot: these add to the same gradient.
struct Pass {
    std::vector<Part> parts;
    std::int64_t floats = 0;  ///< of all partial gradients
};

std::vector<Pass> passes(const LoraBackward& call) {
    std::vector<Pass> all(1);
    for (const RowBlock& slot : row_blocks(call.slots, call.adapters, call.x.rows)) {
        std::vector<RowBlock> parts;
        append_blocks(parts, slot, part_rows(call.partial_floats(slot.slot)));
        for (const RowBlock& rows : parts) {
            Part part{rows, 0};
            const std::int64_t floats = part.groups() * call.partial_floats(slot.slot);
            const bool fits = all.back().floats + floats <= partial_gradients_floats;
            if (!fits || rows.begin != slot.begin) all.emplace_back();
            part.partial = all.back().floats;
            all.back().parts.push_back(part);
            all.back().floats += floats;
        }
    }
    return all;
}

/// One scratch buffer: partial gradients, each slot's panels, each thread's own part.
class BackwardMemory {
public:
    BackwardMemory(Scratch& scratch, int threads, const LoraBackward& call,
                   std::span<const Pass> all) {
        const std::int64_t in = call.x.cols, out = call.dy.cols;
        std::int64_t partial_floats = 0, rank = 0;
        for (const Pass& pass : all) partial_floats = std::max(partial_floats, pass.floats);
        for (const LoraSlot& adapter : call.adapters) rank = std::max(rank, adapter.rank);
        b_floats_ = aligned_floats(panel_floats(out, rank));
        slot_floats_ = b_floats_ + aligned_floats(panel_floats(rank, in));
        panel_floats_ = panel_floats(words_of(call.operands, block_panel_depth), std::max(in, out));
        words_floats_ = lora_block_rows * word_stride(call.operands, std::max(out, rank));
        const std::int64_t sum_floats = aligned_floats(gradient_block_cols * rank);
        thread_floats_ = std::max(
            panel_floats_ + words_floats_ + lora_block_rows * keep_bytes(in) / 4, sum_floats);
        partial_ = scratch.floats(aligned_floats(partial_floats) +
                                  call.slots.count() * slot_floats_ + threads * thread_floats_);
        slots_ = partial_ + aligned_floats(partial_floats);
        threads_ = slots_ + call.slots.count() * slot_floats_;
    }

    float* partial() const { return partial_; }
    float* b_panels(std::int64_t slot) const { return slots_ + slot * slot_floats_; }
    float* a_panels(std::int64_t slot) const { return b_panels(slot) + b_floats_; }
    float* of_thread(int thread) const { return threads_ + thread * thread_floats_; }
    float* words(int thread) const { return of_thread(thread) + panel_floats_; }
    std::uint8_t* keep(int thread) const {
        return reinterpret_cast<std::uint8_t*>(words(thread) + words_floats_);
    }

private:
    std::int64_t b_floats_ = 0, slot_floats_ = 0, panel_floats_ = 0, words_floats_ = 0,
                 thread_floats_ = 0;
    float *partial_ = nullptr, *slots_ = nullptr, *threads_ = nullptr;
};

/// ds, dx and the partial gradients.
void backward_of_groups(int threads, const LoraBackward& call, const BackwardMemory& memory,
                        const Pass& pass) {
    std::vector<RowBlock> groups;
    std::vector<float*> partial;
    for (const Part& part : pass.parts) {
        append_blocks(groups, part.rows, gradient_group_rows);
        float* next = memory.partial() + part.partial;
        for (; partial.size() < groups.size(); next += call.partial_floats(part.rows.slot)) {
            partial.push_back(next);
        }
    }
    const auto backward = HWY_DYNAMIC_DISPATCH(LoraBackwardGroup);
    const auto count = static_cast<std::int64_t>(groups.size());
    parallel_for(threads, count, [&](std::int64_t i, int thread) noexcept {
        const RowBlock& rows = groups[static_cast<std::size_t>(i)];
        float* const da = partial[static_cast<std::size_t>(i)];
        backward(call, rows,
                 {.b_panels = memory.b_panels(rows.slot),
                  .a_panels = memory.a_panels(rows.slot),
                  .da = da,
                  .db = da + call.adapter(rows.slot).rank * call.x.cols,
                  .panels = memory.of_thread(thread),
                  .words = memory.words(thread),
                  .keep = memory.keep(thread)});
    });
}

std::vector<GradientTask> gradient_tasks(const LoraBackward& call, const BackwardMemory& memory,
                                         const Pass& pass) {
    std::vector<GradientTask> tasks;
    for (const Part& part : pass.parts) {
        const std::int64_t slot = part.rows.slot;
        const float* partial = memory.partial() + part.partial;
        for (const Factor factor : {Factor::a, Factor::b}) {
            const std::int64_t cols = factor == Factor::a ? call.x.cols : call.dy.cols;
            for (std::int64_t j = 0; j < cols; j += gradient_block_cols) {
                tasks.push_back({slot, partial, part.groups(), factor, j,
                                 std::min(j + gradient_block_cols, cols)});
            }
            partial += call.adapter(slot).rank * cols;
        }
    }
    return tasks;
}

/// da and db += the sums of the partial gradients.
void add_gradients(int threads, const LoraBackward& call, const BackwardMemory& memory,
                   const Pass& pass) {
    const std::vector<GradientTask> tasks = gradient_tasks(call, memory, pass);
    const auto sum_partial = HWY_DYNAMIC_DISPATCH(SumPartialGradients);
    const auto count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads, count, [&](std::int64_t i, int thread) noexcept {
        const GradientTask& task = tasks[static_cast<std::size_t>(i)];
        const LoraSlot& adapter = call.adapter(task.slot);
        float* const sum = memory.of_thread(thread);
        sum_partial(sum, task.partial + task.begin, call.partial_floats(task.slot), task.groups,
                    adapter.rank, task.factor == Factor::a ? call.x.cols : call.dy.cols,
                    task.end - task.begin);
        add_gradient(adapter, task, sum, call.x.cols);
    });
}

}  // namespace

void CpuBackend::lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                               TensorView x, const Slots& slots, const Dropout& dropout) {
    check::lora_backward(dx, ds, layers, x, slots, dropout);
    check::only_fp32("lora_backward", {x});
    for (const LoraLayer& layer : layers) {
        lora_backward_of({.dx = dx,
                          .ds = ds.columns(0, layer.s.cols),
                          .dy = layer.y,
                          .s = layer.s,
                          .x = x,
                          .slots = slots,
                          .adapters = layer.adapters,
                          .dropout = dropout,
                          .module = layer.module,
                          .operands = operands_for(layer.products)});
    }
}

void CpuBackend::lora_backward_of(const LoraBackward& call) {
    const Slots& slots = call.slots;
    const TensorView x = call.x, dy = call.dy;
    const std::vector<Pass> all = passes(call);
    const BackwardMemory memory(scratch_, threads_, call, all);
    const auto pack = HWY_DYNAMIC_DISPATCH(PackLoraBackward);
    parallel_for(threads_, slots.count(), [&](std::int64_t slot, int) noexcept {
        pack(call.operands, memory.b_panels(slot), memory.a_panels(slot), call.adapter(slot),
             x.cols, dy.cols);
    });
    for (const Pass& pass : all) {
        backward_of_groups(threads_, call, memory, pass);
        add_gradients(threads_, call, memory, pass);
    }
}

}  // namespace fedit::cpu
#endif
