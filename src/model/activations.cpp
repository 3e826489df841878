// model/activations.cpp: plans the arena of one pass.
#include "model/activations.h"

#include <array>
#include <cstdint>
#include <optional>

namespace fedit {

namespace {

constexpr std::size_t alignment = 64;

/// Whether a result outlives its layer, for backward, or the next layer may overwrite it.
enum class Life : std::uint8_t { kept, scratch };

/// Results that layers have in common: each kind has one scratch buffer.
enum class Kind : std::uint8_t { x, h, qkv, qk, lse, attention, x_mid, gate_up, act, s, count };

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
        const Life life =
            pass_ == Pass::train && index >= plan_.lowest_layer ? Life::kept : Life::scratch;
        // A weight's or an adapter's gradient needs its input; without either it is scratch.
        const auto input_of = [&](std::initializer_list<Linear> users) {
            if (plan_.dense) return life;
            for (const Linear user : users) {
                if (plan_.adapters.module(index, user) >= 0) return life;
            }
            return Life::scratch;
        };
        LayerActivations a;
        a.x = place(Kind::x, life, rows, hidden);
        a.h_attention = place(Kind::h, input_of({Linear::q, Linear::k, Linear::v}), rows, hidden);
        a.qkv = place(Kind::qkv, life, rows, config.q_size() + 2 * config.kv_size());
        a.qk = config.qk_norm ? place(Kind::qk, life, rows, config.q_size() + config.kv_size())
                              : a.qkv.columns(0, config.q_size() + config.kv_size());
        a.lse = place(Kind::lse, life, rows, config.heads).floats();
        a.attention = place(Kind::attention, life, rows, config.q_size());
        a.o_input = last ? arena_.matrix(top, config.q_size()) : a.attention;
        a.residual = last ? arena_.matrix(top, hidden) : a.x;
        a.x_mid = place(Kind::x_mid, life, top, hidden);
        a.h_mlp = place(Kind::h, input_of({Linear::gate, Linear::up}), top, hidden);
        a.gate_up = place(Kind::gate_up, life, top, 2 * config.intermediate_size);
        a.act = place(Kind::act, input_of({Linear::down}), top, config.intermediate_size);
        for (std::size_t i = 0; i < linear_count; ++i) {
            const auto linear = static_cast<Linear>(i);
            const int module = plan_.adapters.module(index, linear);
            if (module < 0) continue;
            a.s[i] = place(Kind::s, life, linear < Linear::o ? rows : top,
                           plan_.ranks[static_cast<std::size_t>(module)]);
        }
        return a;
    }

    void backward(Activations& out) {
        const ModelConfig& config = plan_.config;
        const std::int64_t rows = size_.rows, top = size_.target_rows;
        out.dx = arena_.matrix(rows, config.hidden_size);
        out.d_top_x = arena_.matrix(top, config.hidden_size);
        out.dh = arena_.matrix(rows, config.hidden_size);
        out.d_qkv = arena_.matrix(rows, config.q_size() + 2 * config.kv_size());
        out.d_attention = arena_.matrix(rows, config.q_size());
        out.d_top_attention = arena_.matrix(top, config.q_size());
        out.d_act = arena_.matrix(rows, config.intermediate_size);
        out.ds = arena_.floats(rows * plan_.adapters.max_rank());
    }

private:
    TensorView place(Kind kind, Life life, std::int64_t rows, std::int64_t cols) {
        if (life == Life::kept) return arena_.matrix(rows, cols);
        std::optional<float*>& buffer = scratch_[static_cast<std::size_t>(kind)];
        if (!buffer) {
            const std::int64_t widest = kind == Kind::s ? plan_.adapters.max_rank() : cols;
            buffer = arena_.floats(size_.rows * widest);
        }
        return fp32_view(*buffer, rows, cols);
    }

    const ActivationPlan& plan_;
    const PassSize& size_;
    Pass pass_;
    Arena& arena_;
    std::array<std::optional<float*>, static_cast<std::size_t>(Kind::count)> scratch_;
};

}  // namespace

float* Arena::floats(std::int64_t count) {
    std::byte* const piece = block_ == nullptr ? nullptr : block_ + used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
    used_ += (bytes + alignment - 1) / alignment * alignment;
    return reinterpret_cast<float*>(piece);
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
    out.layers.back().out = arena.matrix(size.target_rows, plan.config.hidden_size);
    out.y = arena.matrix(size.target_rows, plan.config.hidden_size);
    if (pass == Pass::train) placer.backward(out);
    return out;
}

}  // namespace fedit
