// tensor/cuda/adapters.cpp: LoRA of several cohort members, and attention of packed sequences.
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cuda/attention.h"
#include "tensor/cuda/cuda_backend.h"
#include "tensor/cuda/lora.h"

namespace fedit::cuda {

namespace {

DeviceSlots on_device(HostArrays& arrays, const Slots& slots, std::span<const LoraSlot> adapters) {
    DeviceSlots device{.count = slots.count(),
                       .row_begin = arrays.on_device(slots.row_begin),
                       .adapters = arrays.on_device(adapters)};
    for (const LoraSlot& adapter : adapters) {
        device.largest_rank = std::max(device.largest_rank, adapter.rank);
    }
    return device;
}

DeviceDropout on_device(HostArrays& arrays, const Dropout& dropout) {
    const std::uint32_t threshold = dropout.p > 0 ? dropout.threshold() : 0;
    if (threshold == 0) return {};
    return {.threshold = threshold,
            .factor = dropout.factor(),
            .module = dropout.module,
            .slot_key = arrays.on_device(dropout.slot_key),
            .row_counter = arrays.on_device(dropout.row_counter)};
}

DeviceSequences on_device(HostArrays& arrays, const Sequences& sequences) {
    DeviceSequences device{.count = sequences.count(), .begin = arrays.on_device(sequences.begin)};
    if (!sequences.own_keys()) {
        device.kv_begin = arrays.on_device(sequences.kv_begin);
        device.kv_end = arrays.on_device(sequences.kv_end);
    }
    return device;
}

}  // namespace

void CudaBackend::lora(TensorView y, TensorView s, TensorView x, const Slots& slots,
                       std::span<const LoraSlot> adapters, const Dropout& dropout) {
    check::lora(y, s, x, slots, adapters, dropout);
    if (x.rows == 0) return;
    const DeviceSlots device_slots = on_device(arrays_, slots, adapters);
    std::byte* const scratch =
        scratch_.bytes(lora_scratch_bytes(x.rows, x.cols, device_slots.largest_rank));
    fedit::cuda::lora(y, s, x, device_slots, on_device(arrays_, dropout), scratch, stream());
    finish("lora");
}

void CudaBackend::lora_backward(TensorView dx, TensorView ds, TensorView dy, TensorView s,
                                TensorView x, const Slots& slots,
                                std::span<const LoraSlot> adapters, const Dropout& dropout) {
    check::lora_backward(dx, ds, dy, s, x, slots, adapters, dropout);
    if (x.rows == 0) return;
    const DeviceSlots device_slots = on_device(arrays_, slots, adapters);
    std::byte* const scratch = scratch_.bytes(lora_backward_scratch_bytes(
        x.rows, x.cols, dy.cols, device_slots.count, device_slots.largest_rank));
    fedit::cuda::lora_backward(dx, ds, dy, s, x, device_slots, on_device(arrays_, dropout), scratch,
                               stream());
    finish("lora_backward");
}

void CudaBackend::attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                            const AttentionShape& shape, const Sequences& sequences) {
    check::attention(out, q, k, v, shape, sequences);
    if (q.rows == 0) return;
    fedit::cuda::attention(out, lse, q, k, v, shape, on_device(arrays_, sequences), stream());
    finish("attention");
}

void CudaBackend::attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                                     TensorView out, const float* lse, TensorView q, TensorView k,
                                     TensorView v, const AttentionShape& shape,
                                     const Sequences& sequences, const Rotary& rotary) {
    check::attention_backward(dq, dk, dv, dout, out, q, k, v, shape, sequences, rotary);
    if (q.rows == 0) return;
    auto* const scratch = scratch_.array<float>(attention_backward_scratch(q.rows, shape.heads));
    fedit::cuda::attention_backward(dq, dk, dv, dout, out, lse, q, k, v, shape,
                                    on_device(arrays_, sequences), rotary_on_device(rotary),
                                    scratch, stream());
    finish("attention_backward");
}

}  // namespace fedit::cuda
