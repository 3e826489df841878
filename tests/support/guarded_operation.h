// tests/support/guarded_operation.h: what the guarded back end does around each operation of the
// CPU back end.
#pragma once

#include <bit>
#include <cstring>
#include <deque>
#include <exception>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/guarded_backend.h"

namespace fedit::test {

inline float widen(std::uint16_t value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// To nearest, ties to even; NaN stays one.
inline std::uint16_t narrow(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

/// One operation: opens the memory, checks where operands lie, hands out what the CPU computes on,
/// and puts bf16 results back at its end.
class GuardedBackend::Operation {
public:
    Operation(GuardedBackend& backend, std::string_view name) : backend_(backend), name_(name) {
        backend_.protect(Access::open);
    }
    ~Operation() {
        if (std::uncaught_exceptions() == exceptions_) {
            for (const Result& result : results_) store(result);
        }
        backend_.protect(Access::none);
    }
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    // Activations, of the back end's type.
    TensorView in(TensorView view) { return widened(view, Content::read); }
    TensorView out(TensorView view) { return result(view, Content::ignored); }
    TensorView in_out(TensorView view) { return result(view, Content::read); }

    /// A matrix that is fp32 whatever activations are.
    TensorView fp32(TensorView view) {
        require_memory(view);
        require(view.data == nullptr || view.dtype == Dtype::fp32, "a matrix is not fp32");
        return view;
    }
    template <class Float>
    Float* floats(Float* begin, std::int64_t count) {
        if (begin != nullptr) {
            require_memory(begin, static_cast<std::size_t>(count) * sizeof(float));
        }
        return begin;
    }
    template <class T>
    std::span<T> vector(std::span<T> values) {
        require_memory(values.data(), values.size_bytes());
        return values;
    }
    const PackedWeight& packed(const PackedWeight& w) {
        require_memory(w.data, w.bytes);
        return w;
    }
    template <class T>
    std::span<T> host(std::span<T> values) {
        require(values.empty() || backend_.find(values.data(), 1) == nullptr,
                "a span of the host lies in back-end memory");
        return values;
    }
    void adapters(std::span<const LoraSlot> adapters, std::int64_t in, std::int64_t out) {
        for (const LoraSlot& slot : adapters) {
            floats(slot.a, slot.rank * in), floats(slot.da, slot.rank * in);
            floats(slot.b, slot.rank * out), floats(slot.db, slot.rank * out);
        }
    }
    /// The layers, whose y and s are still the caller's.
    std::vector<LoraLayer> layers(std::span<const LoraLayer> layers, std::int64_t in) {
        for (const LoraLayer& layer : host(layers)) {
            adapters(host(layer.adapters), in, layer.y.cols);
        }
        return {layers.begin(), layers.end()};
    }
    void rows(const Slots& slots, const Dropout& dropout) {
        host(slots.row_begin), host(dropout.slot_key), host(dropout.row_counter);
    }
    void rows(const Sequences& sequences) {
        host(sequences.begin), host(sequences.kv_begin), host(sequences.kv_end);
    }
    void rows(const Rotary& rotary) { host(rotary.positions), host(rotary.inv_freq); }

private:
    enum class Content { read, ignored };
    struct Result {
        TensorView to, from;
    };

    void require(bool holds, const std::string& what) const {
        if (!holds) throw std::logic_error("guarded back end: " + name_ + ": " + what);
    }
    void require_memory(const void* begin, std::size_t bytes) const {
        require(bytes == 0 || backend_.find(begin, bytes) != nullptr,
                "an operand of " + std::to_string(bytes) + " bytes is not in back-end memory");
    }
    void require_memory(TensorView view) const {
        if (view.data == nullptr || view.rows == 0 || view.cols == 0) return;
        require_memory(view.data,
                       static_cast<std::size_t>((view.rows - 1) * view.stride + view.cols) *
                           size_of(view.dtype));
    }

    TensorView widened(TensorView view, Content content) {
        if (view.data == nullptr) return view;
        require_memory(view);
        require(view.dtype == backend_.activations_,
                "an activation is " + std::string(to_string(view.dtype)));
        if (view.dtype == Dtype::fp32) return view;
        wide_.emplace_back(static_cast<std::size_t>(view.rows * view.cols),
                           std::numeric_limits<float>::quiet_NaN());
        const TensorView wide = fp32_view(wide_.back().data(), view.rows, view.cols);
        if (content == Content::ignored) return wide;
        for (std::int64_t t = 0; t < view.rows; ++t) {
            const auto* from = static_cast<const std::uint16_t*>(view.data) + t * view.stride;
            for (std::int64_t j = 0; j < view.cols; ++j) wide.row(t)[j] = widen(from[j]);
        }
        return wide;
    }
    TensorView result(TensorView view, Content content) {
        const TensorView wide = widened(view, content);
        if (wide.data != view.data) results_.push_back({view, wide});
        return wide;
    }
    static void store(const Result& result) {
        for (std::int64_t t = 0; t < result.to.rows; ++t) {
            auto* to = static_cast<std::uint16_t*>(result.to.data) + t * result.to.stride;
            for (std::int64_t j = 0; j < result.to.cols; ++j) to[j] = narrow(result.from.row(t)[j]);
        }
    }

    GuardedBackend& backend_;
    std::string name_;
    int exceptions_ = std::uncaught_exceptions();
    std::deque<std::vector<float>> wide_;
    std::vector<Result> results_;
};

}  // namespace fedit::test
