// tensor/cpu/lora_backward.cpp: adapters, backward: first by rows (ds, dx), then by columns (da,
// db).
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
void PackLoraBackward(float* b_panels, float* a_panels, const LoraSlot& adapter, std::int64_t in,
                      std::int64_t out) {
    PackRows(b_panels, adapter.b, adapter.rank, out, adapter.rank, adapter.scale);
    PackRows(a_panels, adapter.a, in, adapter.rank, in, 1.0F);
}

void DrawKeepRow(std::uint8_t* keep, const DropoutRow& row, std::int64_t cols) {
    DrawKeepBits(keep, row, cols);
}

/// ds = dy (scale B); dx += drop'(ds A), for the rows of one block. `product` (rows x in) is used
/// only with dropout.
void LoraBackwardBlock(TensorView dx, TensorView ds, TensorView dy, const float* b_panels,
                       const float* a_panels, const KeepBits& keep, float* product) {
    const std::int64_t rank = ds.cols, out = dy.cols;
    for (std::int64_t p = 0; p < out; p += lora_block_depth) {
        Multiply(dy.rows, rank, std::min(lora_block_depth, out - p),
                 {dy.floats() + p, dy.stride, 1}, b_panels + p * PanelCols(), out, ds.floats(),
                 ds.stride, p == 0 ? Result::write : Result::add);
    }
    if (dx.data == nullptr) return;
    const LeftOperand left{ds.floats(), ds.stride, 1};
    if (keep.bytes == nullptr) {
        Multiply(dx.rows, dx.cols, rank, left, a_panels, rank, dx.floats(), dx.stride, Result::add);
        return;
    }
    Multiply(dx.rows, dx.cols, rank, left, a_panels, rank, product, dx.cols, Result::write);
    for (std::int64_t i = 0; i < dx.rows; ++i) {
        AddDroppedRow(dx.row(i), product + i * dx.cols, keep.bytes + i * keep.stride, dx.cols,
                      keep.factor);
    }
}

/// sum (rank x cols of `right`) = left^T right, over the rows in fixed blocks; `right` is dropped
/// first where `keep` is given.
void LoraGradient(float* sum, TensorView left, TensorView right, const KeepBits& keep,
                  float* panels, float* dropped) {
    for (std::int64_t t = 0; t < right.rows; t += gradient_block_rows) {
        const std::int64_t rows = std::min(gradient_block_rows, right.rows - t);
        const float* source = right.row(t);
        std::int64_t stride = right.stride;
        if (keep.bytes != nullptr) {
            for (std::int64_t i = 0; i < rows; ++i) {
                DropRow(dropped + i * gradient_block_cols, right.row(t + i),
                        keep.bytes + (t + i) * keep.stride, right.cols, keep.factor);
            }
            source = dropped;
            stride = gradient_block_cols;
        }
        PackRows(panels, source, stride, rows, right.cols, 1.0F);
        Multiply(left.cols, right.cols, rows, {left.row(t), 1, left.stride}, panels, rows, sum,
                 gradient_block_cols, t == 0 ? Result::write : Result::add);
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
HWY_EXPORT(DrawKeepRow);
HWY_EXPORT(LoraBackwardBlock);
HWY_EXPORT(LoraGradient);

namespace {

/// Which gradient a task adds to.
enum class Factor { a, b };

/// Columns [begin, end) of da (r x in), or rows of db (out x r).
struct GradientTask {
    std::int64_t slot;
    Factor factor;
    std::int64_t begin, end;
};

std::vector<GradientTask> gradient_tasks(const Slots& slots, std::span<const LoraSlot> adapters,
                                         std::int64_t in, std::int64_t out) {
    std::vector<GradientTask> tasks;
    for (std::int64_t slot = 0; slot < slots.count(); ++slot) {
        const auto i = static_cast<std::size_t>(slot);
        if (adapters[i].rank == 0 || slots.row_begin[i] == slots.row_begin[i + 1]) continue;
        for (const Factor factor : {Factor::a, Factor::b}) {
            const std::int64_t cols = factor == Factor::a ? in : out;
            for (std::int64_t j = 0; j < cols; j += gradient_block_cols) {
                tasks.push_back({slot, factor, j, std::min(j + gradient_block_cols, cols)});
            }
        }
    }
    return tasks;
}

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

std::int64_t largest_rank(std::span<const LoraSlot> adapters) {
    std::int64_t rank = 0;
    for (const LoraSlot& adapter : adapters) rank = std::max(rank, adapter.rank);
    return rank;
}

/// The operands of one call.
struct Operands {
    TensorView dx, ds, dy, s, x;
    const Slots& slots;
    std::span<const LoraSlot> adapters;
    const Dropout& dropout;

    bool drops() const { return dropout.p > 0; }
};

/// One scratch buffer: keep bits of all rows, each slot's panels, each thread's own part.
class BackwardMemory {
public:
    BackwardMemory(Scratch& scratch, int threads, const Operands& call)
        : keep_stride_(keep_bytes(call.x.cols)), factor_(call.dropout.factor()) {
        const std::int64_t in = call.x.cols, out = call.dy.cols, rank = largest_rank(call.adapters);
        const std::int64_t keep_floats = call.drops() ? call.x.rows * keep_stride_ / 4 : 0;
        const std::int64_t product_floats = call.drops() ? lora_block_rows * in : 0;
        const std::int64_t gradient_floats = gradient_block_cols * (rank + 2 * gradient_block_rows);
        b_floats_ = aligned_floats(panel_floats(out, rank));
        slot_floats_ = b_floats_ + aligned_floats(panel_floats(rank, in));
        thread_floats_ = aligned_floats(std::max(product_floats, gradient_floats));
        float* const begin = scratch.floats(keep_floats + call.slots.count() * slot_floats_ +
                                            threads * thread_floats_);
        if (call.drops()) keep_ = reinterpret_cast<std::uint8_t*>(begin);
        slots_ = begin + keep_floats;
        threads_ = slots_ + call.slots.count() * slot_floats_;
    }

    std::uint8_t* keep_row(std::int64_t row) const { return keep_ + row * keep_stride_; }
    /// Keep bits from (row, col) on, col a multiple of 8; null bytes without dropout.
    KeepBits keep(std::int64_t row, std::int64_t col) const {
        return {keep_ == nullptr ? nullptr : keep_row(row) + col / 8, keep_stride_, factor_};
    }
    float* b_panels(std::int64_t slot) const { return slots_ + slot * slot_floats_; }
    float* a_panels(std::int64_t slot) const { return b_panels(slot) + b_floats_; }
    float* of_thread(int thread) const { return threads_ + thread * thread_floats_; }

private:
    std::int64_t keep_stride_;
    float factor_;
    std::int64_t b_floats_ = 0, slot_floats_ = 0, thread_floats_ = 0;
    std::uint8_t* keep_ = nullptr;
    float *slots_ = nullptr, *threads_ = nullptr;
};

/// ds and dx.
void backward_by_rows(int threads, const Operands& call, const BackwardMemory& memory) {
    const std::vector<RowBlock> blocks = row_blocks(call.slots, call.adapters);
    const auto draw = HWY_DYNAMIC_DISPATCH(DrawKeepRow);
    const auto by_rows = HWY_DYNAMIC_DISPATCH(LoraBackwardBlock);
    const auto count = static_cast<std::int64_t>(blocks.size());
    parallel_for(threads, count, [&](std::int64_t task, int thread) noexcept {
        const RowBlock& block = blocks[static_cast<std::size_t>(task)];
        for (std::int64_t t = block.begin; call.drops() && t < block.end; ++t) {
            draw(memory.keep_row(t), dropout_row(call.dropout, block.slot, t), call.x.cols);
        }
        const std::int64_t rows = block.end - block.begin;
        const std::int64_t rank = call.adapters[static_cast<std::size_t>(block.slot)].rank;
        by_rows(call.dx.data == nullptr ? call.dx : call.dx.row_range(block.begin, rows),
                call.ds.row_range(block.begin, rows).columns(0, rank),
                call.dy.row_range(block.begin, rows), memory.b_panels(block.slot),
                memory.a_panels(block.slot), memory.keep(block.begin, 0), memory.of_thread(thread));
    });
}

/// da and db, from ds.
void backward_by_columns(int threads, const Operands& call, const BackwardMemory& memory) {
    const std::int64_t in = call.x.cols;
    const std::vector<GradientTask> tasks =
        gradient_tasks(call.slots, call.adapters, in, call.dy.cols);
    const auto gradient = HWY_DYNAMIC_DISPATCH(LoraGradient);
    const auto count = static_cast<std::int64_t>(tasks.size());
    parallel_for(threads, count, [&](std::int64_t i, int thread) noexcept {
        const GradientTask& task = tasks[static_cast<std::size_t>(i)];
        const auto slot = static_cast<std::size_t>(task.slot);
        const LoraSlot& adapter = call.adapters[slot];
        const std::int64_t first = call.slots.row_begin[slot];
        const std::int64_t rows = call.slots.row_begin[slot + 1] - first;
        const bool of_a = task.factor == Factor::a;
        const TensorView left =
            (of_a ? call.ds : call.s).row_range(first, rows).columns(0, adapter.rank);
        const TensorView right = (of_a ? call.x : call.dy)
                                     .row_range(first, rows)
                                     .columns(task.begin, task.end - task.begin);
        float* const panels = memory.of_thread(thread);
        float* const dropped = panels + gradient_block_cols * gradient_block_rows;
        float* const sum = dropped + gradient_block_cols * gradient_block_rows;
        gradient(sum, left, right, of_a ? memory.keep(first, task.begin) : KeepBits{}, panels,
                 dropped);
        add_gradient(adapter, task, sum, in);
    });
}

}  // namespace

void CpuBackend::lora_backward(TensorView dx, TensorView ds, TensorView dy, TensorView s,
                               TensorView x, const Slots& slots, std::span<const LoraSlot> adapters,
                               const Dropout& dropout) {
    check::lora_backward(dx, ds, dy, s, x, slots, adapters, dropout);
    check::only_fp32("lora_backward", {x});
    const Operands call{dx, ds, dy, s, x, slots, adapters, dropout};
    const BackwardMemory memory(scratch_, threads_, call);
    const auto pack = HWY_DYNAMIC_DISPATCH(PackLoraBackward);
    parallel_for(threads_, slots.count(), [&](std::int64_t slot, int) noexcept {
        pack(memory.b_panels(slot), memory.a_panels(slot), adapters[static_cast<std::size_t>(slot)],
             x.cols, dy.cols);
    });
    backward_by_rows(threads_, call, memory);
    backward_by_columns(threads_, call, memory);
}

}  // namespace fedit::cpu
#endif
