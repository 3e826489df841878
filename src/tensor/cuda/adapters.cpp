// tensor/cuda/adapters.cpp: LoRA of several cohort members, and attention of packed sequences.
#include <algorithm>
#include <vector>

#include "tensor/check.h"
#include "tensor/cuda/attention.h"
#include "tensor/cuda/cuda_backend.h"
#include "tensor/cuda/lora.h"

namespace fedit::cuda {

namespace {

DeviceLayer on_device(HostArrays& arrays, const Slots& slots, const LoraLayer& layer) {
    DeviceSlots device{.count = slots.count(),
                       .row_begin = arrays.on_device(slots.row_begin),
                       .adapters = arrays.on_device(layer.adapters)};
    for (const LoraSlot& adapter : layer.adapters) {
        device.largest_rank = std::max(device.largest_rank, adapter.rank);
    }
    return {layer.y, layer.s, device, layer.module, layer.turned_heads};
}

std::vector<DeviceLayer> on_device(HostArrays& arrays, const Slots& slots,
                                   std::span<const LoraLayer> layers) {
    std::vector<DeviceLayer> device;
    for (const LoraLayer& layer : layers) device.push_back(on_device(arrays, slots, layer));
    return device;
}

DeviceDropout on_device(HostArrays& arrays, const Dropout& dropout) {
    const std::uint32_t threshold = dropout.p > 0 ? dropout.threshold() : 0;
    if (threshold == 0) return {};
    return {.threshold = threshold,
            .factor = dropout.factor(),
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

void CudaBackend::lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                       const Dropout& dropout, const Rotary& rotary) {
    check::lora(layers, x, slots, dropout, rotary);
    if (x.rows == 0) return;
    const std::vector<DeviceLayer> device = on_device(arrays_, slots, layers);
    fedit::cuda::lora(device, x, on_device(arrays_, dropout), rotary_on_device(rotary),
                      scratch_.bytes(lora_scratch_bytes(device, x)), stream());
    finish("lora");
}

void CudaBackend::lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                                TensorView x, const Slots& slots, const Dropout& dropout) {
    check::lora_backward(dx, ds, layers, x, slots, dropout);
    if (x.rows == 0) return;
    const std::vector<DeviceLayer> device = on_device(arrays_, slots, layers);
    fedit::cuda::lora_backward(dx, ds, device, x, on_device(arrays_, dropout),
                               scratch_.bytes(lora_backward_scratch_bytes(device, x)), stream());
    finish("lora_backward");
}

void CudaBackend::lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                              const Slots& slots, const Dropout& dropout) {
    check::lora_swiglu(act, gate_up, x, slots, dropout);
    if (x.rows == 0) return;
    const std::vector<DeviceLayer> device = on_device(arrays_, slots, gate_up);
    fedit::cuda::lora_swiglu(act, device, x, on_device(arrays_, dropout),
                             scratch_.bytes(lora_scratch_bytes(device, x)), stream());
    finish("lora_swiglu");
}

void CudaBackend::lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act,
                                       TensorView ds, const LoraLayer& down, TensorView act,
                                       TensorView gate, TensorView up, const Slots& slots,
                                       const Dropout& dropout) {
    check::lora_backward(d_act, ds, {&down, 1}, act, slots, dropout);
    check::swiglu_backward(dgate, dup, d_act, gate, up);
    if (act.rows == 0) return;
    const DeviceLayer device = on_device(arrays_, slots, down);
    fedit::cuda::lora_swiglu_backward(
        dgate, dup, d_act, ds, device, act, gate, up, on_device(arrays_, dropout),
        scratch_.bytes(lora_backward_scratch_bytes({&device, 1}, act)), stream());
    finish("lora_swiglu_backward");
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
