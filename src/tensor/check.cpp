// tensor/check.cpp: what must hold of an operation's operands before any data is touched.
#include "tensor/check.h"

#include <fmt/format.h>

#include "fedit/core/error.h"

namespace fedit::check {

namespace {

/// An operand as an error message shows it.
struct Operand {
    Operand(std::string_view operand, TensorView view)
        : name(operand), rows(view.rows), cols(view.cols) {}
    Operand(std::string_view operand, const PackedWeight& w)
        : name(operand), rows(w.out), cols(w.in) {}
    Operand(std::string_view operand, std::int64_t r, std::int64_t c)
        : name(operand), rows(r), cols(c) {}
    Operand(std::string_view operand, std::size_t n)
        : name(operand), rows(static_cast<std::int64_t>(n)), cols(1) {}

    std::string_view name;
    std::int64_t rows, cols;
};

[[noreturn]] void fail(std::string what) {
    throw ShapeError(
        {.what = std::move(what),
         .where = "an operation of the tensor back end",
         .remedy = "this is a mistake in fedit: report it with the command and model"});
}

void require(bool fits, std::string_view operation, const Operand& a, const Operand& b) {
    if (fits) return;
    fail(fmt::format("{}: {} ({} x {}) does not fit {} ({} x {})", operation, a.name, a.rows,
                     a.cols, b.name, b.rows, b.cols));
}

void require_matrix(std::string_view operation, std::string_view name, TensorView view) {
    if (view.rows < 0 || view.cols < 0 || view.stride < view.cols) {
        fail(fmt::format("{}: {} ({} x {}) does not fit its stride {}", operation, name, view.rows,
                         view.cols, view.stride));
    }
    if (view.data == nullptr && view.rows * view.cols > 0) {
        fail(fmt::format("{}: {} ({} x {}) has no data", operation, name, view.rows, view.cols));
    }
}

/// What an operation keeps in fp32 whatever its activations are.
void require_fp32_matrix(std::string_view operation, std::string_view name, TensorView view) {
    require_matrix(operation, name, view);
    if (view.dtype != Dtype::fp32) fail(fmt::format("{}: {} is not fp32", operation, name));
}

/// Activations of one operation are of one type.
void require_alike(std::string_view operation, std::string_view a_name, TensorView a,
                   std::string_view b_name, TensorView b) {
    if (a.dtype == b.dtype) return;
    fail(fmt::format("{}: {} is {}, but {} is {}", operation, a_name, to_string(a.dtype), b_name,
                     to_string(b.dtype)));
}

/// `begin` rises from 0 to the rows of `view`.
void require_ranges(std::string_view operation, std::string_view name,
                    std::span<const std::int64_t> begin, std::string_view view_name,
                    TensorView view) {
    if (begin.empty() || begin.front() != 0 || begin.back() != view.rows) {
        fail(fmt::format("{}: {} ({} rows) does not fit {} ({} x {})", operation, name,
                         begin.empty() ? 0 : begin.back(), view_name, view.rows, view.cols));
    }
    for (std::size_t i = 1; i < begin.size(); ++i) {
        if (begin[i] < begin[i - 1]) {
            fail(fmt::format("{}: {} falls from {} to {} at {}", operation, name, begin[i - 1],
                             begin[i], i));
        }
    }
}

void require_index(std::string_view operation, std::string_view index_name, std::int64_t index,
                   std::string_view name, TensorView view) {
    if (index >= 0 && index < view.rows) return;
    fail(fmt::format("{}: {} {} is outside {} ({} x {})", operation, index_name, index, name,
                     view.rows, view.cols));
}

/// `y`: what the operation calls a layer's output.
void require_layers(std::string_view operation, std::string_view y,
                    std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
                    const Dropout& dropout) {
    require_matrix(operation, "x", x);
    require_ranges(operation, "slots", slots.row_begin, "x", x);
    for (const LoraLayer& layer : layers) {
        require_matrix(operation, y, layer.y);
        require_matrix(operation, "s", layer.s);
        require_alike(operation, y, layer.y, "x", x);
        require_alike(operation, "s", layer.s, "x", x);
        require(layer.y.rows == x.rows, operation, {y, layer.y}, {"x", x});
        require(layer.s.rows == x.rows, operation, {"s", layer.s}, {"x", x});
        require(slots.count() == static_cast<std::int64_t>(layer.adapters.size()), operation,
                {"slots", slots.count(), 1}, {"adapters", layer.adapters.size()});
        for (const LoraSlot& adapter : layer.adapters) {
            require(adapter.rank >= 0 && adapter.rank <= layer.s.cols, operation, {"s", layer.s},
                    {"adapter a", adapter.rank, x.cols});
        }
    }
    if (dropout.p == 0) return;
    if (!(dropout.p > 0 && dropout.p < 1)) {
        fail(fmt::format("{}: dropout {} is not in [0, 1)", operation, dropout.p));
    }
    require(static_cast<std::int64_t>(dropout.slot_key.size()) == slots.count(), operation,
            {"dropout keys", dropout.slot_key.size()}, {"slots", slots.count(), 1});
    require(static_cast<std::int64_t>(dropout.row_counter.size()) == x.rows, operation,
            {"dropout counters", dropout.row_counter.size()}, {"x", x});
}

void require_rotary(std::string_view operation, std::string_view name, TensorView x,
                    std::int64_t heads, const Rotary& rotary) {
    require_matrix(operation, name, x);
    const auto columns = 2 * static_cast<std::int64_t>(rotary.inv_freq.size());
    require(x.cols == heads * columns, operation, {name, x},
            {"heads x 2 frequencies", heads, columns});
    require(static_cast<std::int64_t>(rotary.positions.size()) == x.rows, operation,
            {"positions", rotary.positions.size()}, {name, x});
    for (const std::int32_t position : rotary.positions) {
        if (position < 0) fail(fmt::format("{}: position {} is negative", operation, position));
    }
}

void require_heads(std::string_view operation, std::string_view name, TensorView view,
                   std::int64_t heads, const AttentionShape& shape, std::int64_t rows) {
    require_matrix(operation, name, view);
    require(view.rows == rows && view.cols == heads * shape.head_dim, operation, {name, view},
            {"tokens x heads", rows, heads * shape.head_dim});
}

/// Each sequence's keys lie inside `k` and are no fewer than its queries.
void require_cached_keys(const Sequences& sequences, TensorView k) {
    const auto count = static_cast<std::size_t>(sequences.count());
    require(sequences.kv_begin.size() == count && sequences.kv_end.size() == count, "attention",
            {"ranges of keys", sequences.kv_begin.size()}, {"sequences", count});
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t begin = sequences.kv_begin[i], end = sequences.kv_end[i];
        const std::int64_t queries = sequences.begin[i + 1] - sequences.begin[i];
        if (begin >= 0 && end <= k.rows && end - begin >= queries) continue;
        fail(
            fmt::format("attention: keys [{}, {}) of sequence {} do not fit its {} queries and k "
                        "({} x {})",
                        begin, end, i, queries, k.rows, k.cols));
    }
}

}  // namespace

void pack(Dtype dtype, std::span<const float> values, std::int64_t out, std::int64_t in) {
    const std::string name = fmt::format("pack {}", to_string(dtype));
    require(out > 0 && in > 0 && static_cast<std::int64_t>(values.size()) == out * in, name,
            {"values", values.size()}, {"weight", out, in});
}

void pack_bf16(Dtype dtype, HostParts rows, std::int64_t out, std::int64_t in) {
    const std::string name = fmt::format("pack_bf16 {}", to_string(dtype));
    std::size_t values = 0;
    for (const std::span<const std::byte> part : rows) {
        require(in > 0 && part.size() % (2 * static_cast<std::size_t>(in)) == 0, name,
                {"a part's bytes", part.size()}, {"weight", out, in});
        values += part.size() / 2;
    }
    require(out > 0 && in > 0 && static_cast<std::int64_t>(values) == out * in, name,
            {"values", values}, {"weight", out, in});
}

void linear(TensorView y, TensorView x, const PackedWeight& w) {
    require_matrix("linear", "y", y);
    require_matrix("linear", "x", x);
    require(x.cols == w.in, "linear", {"x", x}, {"weight", w});
    require(y.cols == w.out, "linear", {"y", y}, {"weight", w});
    require(y.rows == x.rows, "linear", {"y", y}, {"x", x});
    if (y.dtype != Dtype::fp32) require_alike("linear", "y", y, "x", x);
}

void linear_dx(TensorView dx, TensorView dy, const PackedWeight& w) {
    require_matrix("linear_dx", "dx", dx);
    require_matrix("linear_dx", "dy", dy);
    require(dy.cols == w.out, "linear_dx", {"dy", dy}, {"weight", w});
    require(dx.cols == w.in, "linear_dx", {"dx", dx}, {"weight", w});
    require(dx.rows == dy.rows, "linear_dx", {"dx", dx}, {"dy", dy});
    require_alike("linear_dx", "dx", dx, "dy", dy);
}

void linear_dw(TensorView dw, const float* dbias, TensorView dy, TensorView x) {
    require_matrix("linear_dw", "dy", dy);
    if (dw.data == nullptr) {
        if (dbias == nullptr) fail("linear_dw: neither dw nor dbias is given");
        return;
    }
    require_fp32_matrix("linear_dw", "dw", dw);
    require_matrix("linear_dw", "x", x);
    require_alike("linear_dw", "dy", dy, "x", x);
    require(dw.rows == dy.cols, "linear_dw", {"dw", dw}, {"dy", dy});
    require(dw.cols == x.cols, "linear_dw", {"dw", dw}, {"x", x});
    require(dy.rows == x.rows, "linear_dw", {"dy", dy}, {"x", x});
}

void lora(std::span<const LoraLayer> layers, TensorView x, const Slots& slots,
          const Dropout& dropout, const Rotary& rotary) {
    require_layers("lora", "y", layers, x, slots, dropout);
    for (const LoraLayer& layer : layers) {
        if (layer.turned_heads > 0)
            require_rotary("lora", "y", layer.y, layer.turned_heads, rotary);
    }
}

void lora_backward(TensorView dx, TensorView ds, std::span<const LoraLayer> layers, TensorView x,
                   const Slots& slots, const Dropout& dropout) {
    require_layers("lora_backward", "dy", layers, x, slots, dropout);
    if (dx.data != nullptr) same_shape("lora_backward", "x", x, "dx", dx);
    require_matrix("lora_backward", "ds", ds);
    require_alike("lora_backward", "ds", ds, "x", x);
    std::int64_t columns = 0;
    for (const LoraLayer& layer : layers) columns += layer.s.cols;
    require(ds.rows == x.rows && ds.cols == columns, "lora_backward", {"ds", ds},
            {"all s", x.rows, columns});
}

void lora_swiglu(TensorView act, std::span<const LoraLayer> gate_up, TensorView x,
                 const Slots& slots, const Dropout& dropout) {
    require(gate_up.size() == 2, "lora_swiglu", {"layers", gate_up.size()},
            {"gate and up", std::size_t{2}});
    require_layers("lora_swiglu", "y", gate_up, x, slots, dropout);
    swiglu(act, gate_up[0].y, gate_up[1].y);
}

void swiglu(TensorView y, TensorView gate, TensorView up) {
    same_shape("swiglu", "gate", gate, "up", up);
    same_shape("swiglu", "gate", gate, "y", y);
}

void swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                     TensorView up) {
    same_shape("swiglu_backward", "gate", gate, "up", up);
    same_shape("swiglu_backward", "gate", gate, "dy", dy);
    same_shape("swiglu_backward", "gate", gate, "dgate", dgate);
    same_shape("swiglu_backward", "gate", gate, "dup", dup);
}

void rms_norm(TensorView y, TensorView x, TensorView residual) {
    same_shape("rms_norm", "x", x, "y", y);
    if (residual.data != nullptr) same_shape("rms_norm", "x", x, "residual", residual);
}

void head_rms_norm(TensorView y, TensorView x, std::int64_t heads) {
    same_shape("head_rms_norm", "x", x, "y", y);
    if (heads > 0 && x.cols % heads == 0) return;
    fail(fmt::format("head_rms_norm: x ({} x {}) does not fit {} heads", x.rows, x.cols, heads));
}

void rms_norm_dgain(std::span<const float> dgain, TensorView dy, TensorView x) {
    same_shape("rms_norm_dgain", "x", x, "dy", dy);
    const auto width = static_cast<std::int64_t>(dgain.size());
    require(width > 0 && x.cols % width == 0, "rms_norm_dgain", {"dgain", dgain.size()}, {"x", x});
}

void rope(TensorView x, std::int64_t heads, const Rotary& rotary) {
    require_rotary("rope", "x", x, heads, rotary);
}

void attention(TensorView out, TensorView q, TensorView k, TensorView v,
               const AttentionShape& shape, const Sequences& sequences) {
    if (shape.heads <= 0 || shape.kv_heads <= 0 || shape.head_dim <= 0 ||
        shape.heads % shape.kv_heads != 0) {
        fail(fmt::format("attention: heads ({}) do not fit kv_heads ({}) of head_dim {}",
                         shape.heads, shape.kv_heads, shape.head_dim));
    }
    if (shape.window < 0) fail(fmt::format("attention: window {} is negative", shape.window));
    const std::int64_t keys = sequences.own_keys() ? q.rows : k.rows;
    require_heads("attention", "q", q, shape.heads, shape, q.rows);
    require_heads("attention", "out", out, shape.heads, shape, q.rows);
    require_heads("attention", "k", k, shape.kv_heads, shape, keys);
    require_heads("attention", "v", v, shape.kv_heads, shape, keys);
    require_alike("attention", "out", out, "q", q);
    require_alike("attention", "k", k, "q", q);
    require_alike("attention", "v", v, "q", q);
    require_ranges("attention", "sequences", sequences.begin, "q", q);
    if (!sequences.own_keys()) require_cached_keys(sequences, k);
}

void attention_backward(TensorView dq, TensorView dk, TensorView dv, TensorView dout,
                        TensorView out, TensorView q, TensorView k, TensorView v,
                        const AttentionShape& shape, const Sequences& sequences,
                        const Rotary& rotary) {
    attention(out, q, k, v, shape, sequences);
    if (!sequences.own_keys()) fail("attention_backward: keys are not the queries' rows");
    same_shape("attention_backward", "q", q, "dq", dq);
    same_shape("attention_backward", "k", k, "dk", dk);
    same_shape("attention_backward", "v", v, "dv", dv);
    same_shape("attention_backward", "out", out, "dout", dout);
    if (rotary.inv_freq.empty()) return;
    require_rotary("attention_backward", "dq", dq, shape.heads, rotary);
}

void same_shape(std::string_view operation, std::string_view a_name, TensorView a,
                std::string_view b_name, TensorView b) {
    require_matrix(operation, a_name, a);
    require_matrix(operation, b_name, b);
    require(a.rows == b.rows && a.cols == b.cols, operation, {b_name, b}, {a_name, a});
    require_alike(operation, b_name, b, a_name, a);
}

void embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens) {
    require_matrix("embedding", "y", y);
    require_fp32_matrix("embedding", "table", table);
    require(y.cols == table.cols, "embedding", {"y", y}, {"table", table});
    require(y.rows == static_cast<std::int64_t>(tokens.size()), "embedding", {"y", y},
            {"tokens", tokens.size()});
    for (const std::int32_t token : tokens) {
        require_index("embedding", "token", token, "table", table);
    }
}

void cross_entropy(std::span<const double> loss, TensorView dx, TensorView dhead, TensorView x,
                   const PackedWeight& head, std::span<const std::int32_t> targets,
                   std::span<const float> weight, std::span<const std::int32_t> best) {
    require_matrix("cross_entropy", "x", x);
    require(x.cols == head.in, "cross_entropy", {"x", x}, {"head", head});
    const auto rows = static_cast<std::size_t>(x.rows);
    require(loss.size() == rows, "cross_entropy", {"loss", loss.size()}, {"x", x});
    require(targets.size() == rows, "cross_entropy", {"targets", targets.size()}, {"x", x});
    if (dx.data != nullptr) {
        same_shape("cross_entropy", "x", x, "dx", dx);
        require(weight.size() == rows, "cross_entropy", {"weight", weight.size()}, {"x", x});
    }
    if (!best.empty()) {
        require(best.size() == rows, "cross_entropy", {"best", best.size()}, {"x", x});
    }
    if (dhead.data != nullptr) {
        if (dx.data == nullptr) fail("cross_entropy: dhead is given without dx");
        require_fp32_matrix("cross_entropy", "dhead", dhead);
        require(dhead.rows == head.out && dhead.cols == head.in, "cross_entropy", {"dhead", dhead},
                {"head", head});
    }
    const TensorView vocabulary{nullptr, Dtype::fp32, head.out, head.in, head.in};
    for (const std::int32_t target : targets) {
        require_index("cross_entropy", "target", target, "head", vocabulary);
    }
}

void row_list(std::string_view operation, TensorView few, TensorView many,
              std::span<const std::int64_t> rows) {
    require_matrix(operation, "selected", few);
    require_matrix(operation, "all", many);
    require_alike(operation, "selected", few, "all", many);
    require(few.cols == many.cols, operation, {"selected", few}, {"all", many});
    require(few.rows == static_cast<std::int64_t>(rows.size()), operation, {"selected", few},
            {"rows", rows.size()});
    for (const std::int64_t row : rows) require_index(operation, "row", row, "all", many);
}

void only_fp32(std::string_view operation, std::initializer_list<TensorView> operands) {
    for (const TensorView view : operands) {
        if (view.data == nullptr || view.dtype == Dtype::fp32) continue;
        fail(fmt::format("{}: an operand ({} x {}) is {}, and this back end computes on fp32 alone",
                         operation, view.rows, view.cols, to_string(view.dtype)));
    }
}

void same_size(std::string_view operation, std::string_view a_name, std::size_t a,
               std::string_view b_name, std::size_t b) {
    require(a == b, operation, {b_name, b}, {a_name, a});
}

}  // namespace fedit::check
