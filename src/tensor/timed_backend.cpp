// tensor/timed_backend.cpp: times each operation of a back end from outside.
#include "fedit/tensor/timed_backend.h"

#include <chrono>
#include <type_traits>

namespace fedit {

enum class TimedBackend::Operation : std::uint8_t {
    allocate,
    upload,
    download,
    export_memory,
    import_memory,
    pack,
    pack_bf16,
    repack,
    linear,
    linear_dx,
    linear_dw,
    lora,
    lora_backward,
    lora_swiglu,
    lora_swiglu_backward,
    rms_norm,
    rms_norm_backward,
    head_rms_norm,
    head_rms_norm_backward,
    rms_norm_dgain,
    rope,
    rope_backward,
    attention,
    attention_backward,
    swiglu,
    swiglu_backward,
    embedding,
    embedding_backward,
    cross_entropy,
    gather_rows,
    scatter_add_rows,
    adamw,
    sgd,
    scale,
    fill,
    copy,
    squared_norm,
    squared_distance,
    accumulate_fixed
};

namespace {

using Clock = std::chrono::steady_clock;

/// A multiplication and an addition for each of m n k.
double product_flop(std::int64_t m, std::int64_t n, std::int64_t k) {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

/// Rows times rank, over all slots.
double lora_rows(const Slots& slots, std::span<const LoraSlot> adapters) {
    double rows = 0;
    for (std::size_t i = 0; i < adapters.size(); ++i) {
        rows += static_cast<double>(slots.row_begin[i + 1] - slots.row_begin[i]) *
                static_cast<double>(adapters[i].rank);
    }
    return rows;
}

double lora_flop(std::span<const LoraLayer> layers, TensorView x, const Slots& slots) {
    double flop = 0;
    for (const LoraLayer& layer : layers) {
        flop += 2 * lora_rows(slots, layer.adapters) * static_cast<double>(x.cols + layer.y.cols);
    }
    return flop;
}

/// ds and db with dy; da with x, and dx where it is wanted.
double lora_backward_flop(TensorView dx, std::span<const LoraLayer> layers, TensorView x,
                          const Slots& slots) {
    double flop = 0;
    for (const LoraLayer& layer : layers) {
        const std::int64_t columns = 2 * layer.y.cols + (dx.data == nullptr ? 1 : 2) * x.cols;
        flop += 2 * lora_rows(slots, layer.adapters) * static_cast<double>(columns);
    }
    return flop;
}

}  // namespace

std::string_view to_string(StepPhase phase) {
    switch (phase) {
        case StepPhase::forward:
            return "forward";
        case StepPhase::loss:
            return "loss";
        case StepPhase::backward:
            return "backward";
        case StepPhase::optimizer:
            return "optimizer";
        case StepPhase::memory:
            return "memory";
    }
    return "";
}

/// In the order of Operation.
const std::vector<TimedBackend::Kind>& TimedBackend::kinds() {
    using enum StepPhase;
    static const std::vector<Kind> list{{"allocate", memory},
                                        {"upload", memory},
                                        {"download", memory},
                                        {"export_memory", memory},
                                        {"import_memory", memory},
                                        {"pack", memory},
                                        {"pack_bf16", memory},
                                        {"repack", memory},
                                        {"linear", forward},
                                        {"linear_dx", backward},
                                        {"linear_dw", backward},
                                        {"lora", forward},
                                        {"lora_backward", backward},
                                        {"lora_swiglu", forward},
                                        {"lora_swiglu_backward", backward},
                                        {"rms_norm", forward},
                                        {"rms_norm_backward", backward},
                                        {"head_rms_norm", forward},
                                        {"head_rms_norm_backward", backward},
                                        {"rms_norm_dgain", backward},
                                        {"rope", forward},
                                        {"rope_backward", backward},
                                        {"attention", forward},
                                        {"attention_backward", backward},
                                        {"swiglu", forward},
                                        {"swiglu_backward", backward},
                                        {"embedding", forward},
                                        {"embedding_backward", backward},
                                        {"cross_entropy", loss},
                                        {"gather_rows", forward},
                                        {"scatter_add_rows", backward},
                                        {"adamw", optimizer},
                                        {"sgd", optimizer},
                                        {"scale", optimizer},
                                        {"fill", backward},
                                        {"copy", memory},
                                        {"squared_norm", optimizer},
                                        {"squared_distance", optimizer},
                                        {"accumulate_fixed", optimizer}};
    return list;
}

TimedBackend::TimedBackend(Backend& inner) : inner_(inner), probe_(inner, sizeof(float)) {
    inner_.fill({probe_.floats(), 1}, 0);
    for (const Kind& kind : kinds()) times_.push_back({.name = kind.name, .phase = kind.phase});
}

std::vector<OperationTime> TimedBackend::times() const {
    std::vector<OperationTime> called;
    for (const OperationTime& time : times_) {
        if (time.calls > 0) called.push_back(time);
    }
    return called;
}

void TimedBackend::reset() {
    for (OperationTime& time : times_) time.calls = 0, time.seconds = 0, time.flop = 0;
}

template <class Work>
auto TimedBackend::timed(Operation operation, double flop, const Work& work) {
    struct Count {
        OperationTime& time;
        Backend& backend;
        const DeviceBuffer& probe;
        double flop;
        Clock::time_point start = Clock::now();

        void end() const {
            float unused = 0;
            backend.download(std::as_writable_bytes(std::span(&unused, 1)), probe.data());
            time.seconds += std::chrono::duration<double>(Clock::now() - start).count();
            time.flop += flop;
            ++time.calls;
        }
    };
    const Count count{times_[static_cast<std::size_t>(operation)], inner_, probe_, flop};
    if constexpr (std::is_void_v<decltype(work())>) {
        work();
        count.end();
    } else {
        const auto result = work();
        count.end();
        return result;
    }
}

DeviceInfo TimedBackend::info() const {
    return inner_.info();
}

Dtype TimedBackend::activation_dtype(Dtype products) const {
    return inner_.activation_dtype(products);
}

std::size_t TimedBackend::loss_bytes(std::int64_t rows, std::int64_t vocab) const {
    return inner_.loss_bytes(rows, vocab);
}

void* TimedBackend::allocate(std::size_t bytes) {
    return timed(Operation::allocate, 0, [&] { return inner_.allocate(bytes); });
}

void TimedBackend::release(void* memory) noexcept {
    inner_.release(memory);
}

void TimedBackend::upload(void* to, std::span<const std::byte> from) {
    timed(Operation::upload, 0, [&] { inner_.upload(to, from); });
}

void TimedBackend::download(std::span<std::byte> to, const void* from) {
    timed(Operation::download, 0, [&] { inner_.download(to, from); });
}

std::vector<std::byte> TimedBackend::export_memory(void* memory) {
    return timed(Operation::export_memory, 0, [&] { return inner_.export_memory(memory); });
}

void* TimedBackend::import_memory(std::span<const std::byte> handle) {
    return timed(Operation::import_memory, 0, [&] { return inner_.import_memory(handle); });
}

std::size_t TimedBackend::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    return inner_.packed_bytes(dtype, out, in);
}

void TimedBackend::pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                        std::int64_t out, std::int64_t in) {
    timed(Operation::pack, 0, [&] { inner_.pack(memory, dtype, values, out, in); });
}

void TimedBackend::pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                             std::int64_t in) {
    timed(Operation::pack_bf16, 0, [&] { inner_.pack_bf16(memory, dtype, rows, out, in); });
}

void TimedBackend::repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                          std::int64_t in) {
    timed(Operation::repack, 0, [&] { inner_.repack(memory, dtype, values, out, in); });
}

void TimedBackend::linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                          bool accumulate) {
    timed(Operation::linear, product_flop(x.rows, w.out, w.in),
          [&] { inner_.linear(y, x, w, bias, accumulate); });
}

void TimedBackend::linear_dx(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate) {
    timed(Operation::linear_dx, product_flop(dy.rows, w.out, w.in),
          [&] { inner_.linear_dx(dx, dy, w, accumulate); });
}

void TimedBackend::linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) {
    const double flop = dw.data == nullptr ? 0 : product_flop(dy.rows, dy.cols, x.cols);
    timed(Operation::linear_dw, flop, [&] { inner_.linear_dw(dw, dbias, dy, x); });
}

void TimedBackend::lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                        const Dropout& dropout, const Rotary& rotary) {
    timed(Operation::lora, lora_flop(layers, x, slots),
          [&] { inner_.lora(layers, x, slots, dropout, rotary); });
}

void TimedBackend::lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers,
                                 TensorView x, const Slots& slots, const Dropout& dropout) {
    timed(Operation::lora_backward, lora_backward_flop(dx, layers, x, slots),
          [&] { inner_.lora_backward(dx, ds, layers, x, slots, dropout); });
}

void TimedBackend::lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                               const Slots& slots, const Dropout& dropout) {
    timed(Operation::lora_swiglu, lora_flop(gate_up, x, slots),
          [&] { inner_.lora_swiglu(act, gate_up, x, slots, dropout); });
}

void TimedBackend::lora_swiglu_backward(TensorView dgate, TensorView dup, TensorView d_act,
                                        TensorView ds, const LoraLayer& down, TensorView act,
                                        TensorView gate, TensorView up, const Slots& slots,
                                        const Dropout& dropout) {
    timed(Operation::lora_swiglu_backward, lora_backward_flop(d_act, {&down, 1}, act, slots), [&] {
        inner_.lora_swiglu_backward(dgate, dup, d_act, ds, down, act, gate, up, slots, dropout);
    });
}

void TimedBackend::rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                            float eps) {
    timed(Operation::rms_norm, 0, [&] { inner_.rms_norm(y, x, residual, gain, eps); });
}

void TimedBackend::rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain,
                                     float eps) {
    timed(Operation::rms_norm_backward, 0, [&] { inner_.rms_norm_backward(dx, dy, x, gain, eps); });
}

void TimedBackend::head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain,
                                 float eps) {
    timed(Operation::head_rms_norm, 0, [&] { inner_.head_rms_norm(y, x, heads, gain, eps); });
}

void TimedBackend::head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                          std::int64_t heads, const float* gain, float eps) {
    timed(Operation::head_rms_norm_backward, 0,
          [&] { inner_.head_rms_norm_backward(dx, dy, x, heads, gain, eps); });
}

void TimedBackend::rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x, float eps) {
    timed(Operation::rms_norm_dgain, 0, [&] { inner_.rms_norm_dgain(dgain, dy, x, eps); });
}

void TimedBackend::rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) {
    timed(inverse ? Operation::rope_backward : Operation::rope, 0,
          [&] { inner_.rope(x, heads, rotary, inverse); });
}

void TimedBackend::attention(TensorView out, float* lse, TensorView q, TensorView k, TensorView v,
                             const AttentionShape& shape, const Sequences& sequences) {
    timed(Operation::attention, 0, [&] { inner_.attention(out, lse, q, k, v, shape, sequences); });
}

void TimedBackend::attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                                      TensorView out, const float* lse, TensorView q, TensorView k,
                                      TensorView v, const AttentionShape& shape,
                                      const Sequences& sequences, const Rotary& rotary) {
    timed(Operation::attention_backward, 0, [&] {
        inner_.attention_backward(dq, dk, dv, dout, out, lse, q, k, v, shape, sequences, rotary);
    });
}

void TimedBackend::swiglu(TensorView y, TensorView gate, TensorView up) {
    timed(Operation::swiglu, 0, [&] { inner_.swiglu(y, gate, up); });
}

void TimedBackend::swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                                   TensorView up) {
    timed(Operation::swiglu_backward, 0, [&] { inner_.swiglu_backward(dgate, dup, dy, gate, up); });
}

void TimedBackend::embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens) {
    timed(Operation::embedding, 0, [&] { inner_.embedding(y, table, tokens); });
}

void TimedBackend::embedding_backward(TensorView dtable, TensorView dy,
                                      std::span<const std::int32_t> tokens) {
    timed(Operation::embedding_backward, 0, [&] { inner_.embedding_backward(dtable, dy, tokens); });
}

void TimedBackend::cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead,
                                 TensorView x, const PackedWeight& head,
                                 std::span<const std::int32_t> targets,
                                 std::span<const float> weight, std::span<std::int32_t> best) {
    const int products = 1 + (dx.data != nullptr ? 1 : 0) + (dhead.data != nullptr ? 1 : 0);
    timed(Operation::cross_entropy, products * product_flop(x.rows, head.out, head.in),
          [&] { inner_.cross_entropy(loss, dx, dhead, x, head, targets, weight, best); });
}

void TimedBackend::gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    timed(Operation::gather_rows, 0, [&] { inner_.gather_rows(y, x, rows); });
}

void TimedBackend::scatter_add_rows(TensorView y, TensorView x,
                                    std::span<const std::int64_t> rows) {
    timed(Operation::scatter_add_rows, 0, [&] { inner_.scatter_add_rows(y, x, rows); });
}

void TimedBackend::adamw(std::span<float> x, std::span<const float> g, std::span<float> m,
                         std::span<float> v, const AdamW& settings) {
    timed(Operation::adamw, 0, [&] { inner_.adamw(x, g, m, v, settings); });
}

void TimedBackend::sgd(std::span<float> x, std::span<const float> g, double lr,
                       double weight_decay) {
    timed(Operation::sgd, 0, [&] { inner_.sgd(x, g, lr, weight_decay); });
}

void TimedBackend::scale(std::span<float> x, float factor) {
    timed(Operation::scale, 0, [&] { inner_.scale(x, factor); });
}

void TimedBackend::fill(std::span<float> x, float value) {
    timed(Operation::fill, 0, [&] { inner_.fill(x, value); });
}

void TimedBackend::copy(std::span<float> to, std::span<const float> from) {
    timed(Operation::copy, 0, [&] { inner_.copy(to, from); });
}

double TimedBackend::squared_norm(std::span<const float> x) {
    return timed(Operation::squared_norm, 0, [&] { return inner_.squared_norm(x); });
}

double TimedBackend::squared_distance(std::span<const float> x, std::span<const float> x0) {
    return timed(Operation::squared_distance, 0, [&] { return inner_.squared_distance(x, x0); });
}

void TimedBackend::accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                    std::span<const float> x0, double weight) {
    timed(Operation::accumulate_fixed, 0, [&] { inner_.accumulate_fixed(words, x, x0, weight); });
}

}  // namespace fedit
