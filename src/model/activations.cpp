// model/activations.cpp: plans the arena of one pass.
#include "model/activations.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

namespace fedit {

namespace {

constexpr std::size_t alignment = 256;  // what a GPU's products and copies like best

/// Whether a result outlives its layer, for backward, or the next layer may overwrite it.
enum class Life : std::uint8_t { kept, scratch };

/// Results that layers have in common: each kind has one scratch buffer.
enum class Kind : std::uint8_t { x, h, qkv, qk, lse, attention, x_mid, gate_up, act, s };

/// A layer needs its adapters' inner products side by side: that of linear layer i is of kind s +
/// i.
constexpr std::size_t kinds = static_cast<std::size_t>(Kind::s) + linear_count;

class Placer {
public:
    Placer(const ActivationPlan& plan, const PassSize& size, Pass pass, Arena& arena)
        : plan_(plan), size_(size), pass_(pass), arena_(arena) {}

    LayerActivations layer(std::int64_t index) {
        const ModelConfig& config = plan_.config;
        const std::int64_t hidden = config.hidden_size;
        const std::int64_t rows = size_.rows;
        const bool last = index + 1 == config.layers;
        const std::int64_t top = last ? size_.target_rows : rows;
        const bool trains = pass_ == Pass::train && index >= plan_.lowest_layer;
        const Life stream = trains ? Life::kept : Life::scratch;
        const Life life =
            trains && plan_.recompute != Recompute::layer ? Life::kept : Life::scratch;
        const auto life_if = [&](bool read) {
            return trains && plan_.recompute == Recompute::none && read ? Life::kept
                                                                        : Life::scratch;
        };
        const auto input_of = [&](std::initializer_list<Linear> users) {
            return life_if(plan_.reads_input_of(index, users));
        };
        LayerActivations a;
        a.x = place(Kind::x, stream, rows, hidden);
        a.h_attention = place(Kind::h, input_of({Linear::q, Linear::k, Linear::v}), rows, hidden);
        a.qkv = place(Kind::qkv, life, rows, config.q_size() + 2 * config.kv_size());
        a.qk = config.qk_norm ? place(Kind::qk, life, rows, config.q_size() + config.kv_size())
                              : a.qkv.columns(0, config.q_size() + config.kv_size());
        a.lse = place(Kind::lse, life, rows, config.heads, Dtype::fp32).floats();
        a.attention = place(Kind::attention, life, rows, config.q_size());
        a.o_input = last ? arena_.matrix(plan_.dtype, top, config.q_size()) : a.attention;
        a.residual = last ? arena_.matrix(plan_.dtype, top, hidden) : a.x;
        a.x_mid = place(Kind::x_mid, life, top, hidden);
        a.h_mlp = place(Kind::h, input_of({Linear::gate, Linear::up}), top, hidden);
        a.gate_up = place(Kind::gate_up, life, top, 2 * config.intermediate_size);
        a.act = place(Kind::act, life_if(plan_.reads_act(index)), top, config.intermediate_size);
        for (std::size_t i = 0; i < linear_count; ++i) {
            const auto linear = static_cast<Linear>(i);
            const int module = plan_.adapters.module(index, linear);
            if (module < 0) continue;
            a.s[i] = place(static_cast<Kind>(static_cast<std::size_t>(Kind::s) + i), life,
                           linear < Linear::o ? rows : top,
                           plan_.ranks[static_cast<std::size_t>(module)]);
        }
        return a;
    }

    void backward(Activations& out) {
        const ModelConfig& config = plan_.config;
        const std::int64_t rows = size_.rows, top = size_.target_rows;
        const auto matrix = [&](std::int64_t count, std::int64_t cols) {
            return arena_.matrix(plan_.dtype, count, cols);
        };
        out.dx = matrix(rows, config.hidden_size);
        out.d_top_x = matrix(top, config.hidden_size);
        out.dh = matrix(rows, config.hidden_size);
        out.d_qkv = matrix(rows, config.q_size() + 2 * config.kv_size());
        out.d_attention = matrix(rows, config.q_size());
        out.d_top_attention = matrix(top, config.q_size());
        out.d_act = matrix(rows, config.intermediate_size);
        out.ds = matrix(rows, most_on_one_input * plan_.adapters.max_rank());
    }

private:
    TensorView place(Kind kind, Life life, std::int64_t rows, std::int64_t cols) {
        return place(kind, life, rows, cols, plan_.dtype);
    }
    TensorView place(Kind kind, Life life, std::int64_t rows, std::int64_t cols, Dtype dtype) {
        if (life == Life::kept) return arena_.matrix(dtype, rows, cols);
        std::optional<void*>& buffer = scratch_[static_cast<std::size_t>(kind)];
        if (!buffer) {
            const std::int64_t widest = kind >= Kind::s ? plan_.adapters.max_rank() : cols;
            buffer = arena_.matrix(dtype, size_.rows, widest).data;
        }
        return dense_view(*buffer, dtype, rows, cols);
    }

    const ActivationPlan& plan_;
    const PassSize& size_;
    Pass pass_;
    Arena& arena_;
    std::array<std::optional<void*>, kinds> scratch_;
};

}  // namespace

std::byte* Arena::piece(std::size_t bytes) {
    std::byte* const begin = block_ == nullptr ? nullptr : block_ + used_;
    used_ += (bytes + alignment - 1) / alignment * alignment;
    return begin;
}

bool ActivationPlan::reads_input_of(std::int64_t layer, std::initializer_list<Linear> users) const {
    return dense || std::any_of(users.begin(), users.end(),
                                [&](Linear user) { return adapters.module(layer, user) >= 0; });
}

Activations place_activations(const ActivationPlan& plan, const PassSize& size, Pass pass,
                              Arena& arena) {
    Placer placer(plan, size, pass, arena);
    Activations out;
    for (std::int64_t layer = 0; layer < plan.config.layers; ++layer) {
        out.layers.push_back(placer.layer(layer));
    }
    for (std::size_t layer = 0; layer + 1 < out.layers.size(); ++layer) {
        out.layers[layer].out = out.layers[layer + 1].x;
    }
    const auto top = [&] {
        return arena.matrix(plan.dtype, size.target_rows, plan.config.hidden_size);
    };
    out.layers.back().out = top();
    out.y = top();
    if (pass == Pass::train) placer.backward(out);
    return out;
}

}  // namespace fedit
