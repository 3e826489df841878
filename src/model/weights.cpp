// model/weights.cpp: plans the block that holds the frozen base, fills it, and hands out views.
#include "fedit/model/weights.h"

#include <fmt/core.h>

#include <cstdint>

#include "fedit/core/aligned_memory.h"
#include "fedit/core/error.h"
#include "model/linear_shape.h"

namespace fedit {

namespace {

constexpr std::size_t piece_alignment = 256;  // inside the block: what a GPU's products like best

std::size_t floats(std::int64_t count) {
    return static_cast<std::size_t>(count) * sizeof(float);
}

const float* floats_at(std::span<const std::byte> memory, std::size_t offset) {
    return reinterpret_cast<const float*>(memory.data() + offset);
}

/// The linear layers that share one product, and its input's width.
struct Product {
    std::vector<Linear> parts;
    std::int64_t out = 0, in = 0;
};

Product product_of(const ModelConfig& config, std::vector<Linear> parts) {
    Product product{std::move(parts), 0, 0};
    for (const Linear part : product.parts) {
        const LinearShape shape = linear_shape(config, part);
        product.out += shape.out;
        product.in = shape.in;
    }
    return product;
}

}  // namespace

/// Reads tensors into the block, staging one product at a time in host memory.
class WeightPlan::Filler {
public:
    Filler(const WeightPlan& plan, std::span<std::byte> memory, const HfFolder& folder,
           Backend& backend)
        : plan_(plan), memory_(memory), folder_(folder), backend_(backend) {}

    void vector(const Block& block, const std::string& name) {
        staging_.resize(block.bytes / sizeof(float));
        folder_.read(name, staging_);
        upload(block, staging_);
    }

    /// The embedding, and the head where it is the same matrix.
    void embedding(const Block& table, const Block* tied_head) {
        vector(table, "model.embed_tokens.weight");
        if (tied_head == nullptr) return;
        pack(*tied_head, staging_, plan_.config_.vocab_size, plan_.config_.hidden_size);
    }

    void product(const Block& weight, const Block& bias, std::int64_t layer,
                 std::vector<Linear> parts) {
        const Product all = product_of(plan_.config_, std::move(parts));
        staging_.resize(static_cast<std::size_t>(all.out * all.in));
        std::vector<float> biases(bias.bytes / sizeof(float));
        std::size_t row = 0;
        const auto in = static_cast<std::size_t>(all.in);
        for (const Linear part : all.parts) {
            const auto out = static_cast<std::size_t>(linear_shape(plan_.config_, part).out);
            const std::string name = "model." + module_name(layer, part);
            folder_.read(name + ".weight", std::span(staging_).subspan(row * in, out * in));
            if (!biases.empty()) {
                folder_.read(name + ".bias", std::span(biases).subspan(row, out));
            }
            row += out;
        }
        pack(weight, staging_, all.out, all.in);
        upload(bias, biases);
    }

    /// The head of a model that does not tie it to the embedding.
    void head(const Block& block) {
        const std::int64_t vocab = plan_.config_.vocab_size, hidden = plan_.config_.hidden_size;
        staging_.resize(static_cast<std::size_t>(vocab * hidden));
        folder_.read("lm_head.weight", staging_);
        pack(block, staging_, vocab, hidden);
    }

private:
    void pack(const Block& block, std::span<const float> values, std::int64_t out,
              std::int64_t in) {
        backend_.pack(memory_.data() + block.offset, plan_.dtype_, values, out, in);
    }
    void upload(const Block& block, std::span<const float> values) {
        backend_.upload(memory_.data() + block.offset, std::as_bytes(values));
    }

    const WeightPlan& plan_;
    std::span<std::byte> memory_;
    const HfFolder& folder_;
    Backend& backend_;
    std::vector<float> staging_;
};

WeightPlan::WeightPlan(const ModelConfig& config, const Backend& backend, Dtype dtype)
    : config_(config), dtype_(dtype) {
    const auto packed = [&](const std::vector<Linear>& parts) {
        const Product product = product_of(config, parts);
        return reserve(backend.packed_bytes(dtype, product.out, product.in));
    };
    const auto vector = [&](bool wanted, std::int64_t size) {
        return wanted ? reserve(floats(size)) : Block{};
    };
    const std::int64_t hidden = config.hidden_size;
    embedding_ = reserve(floats(config.vocab_size * hidden));
    for (std::int64_t layer = 0; layer < config.layers; ++layer) {
        LayerBlocks blocks;
        blocks.attention_norm = reserve(floats(hidden));
        blocks.qkv = packed({Linear::q, Linear::k, Linear::v});
        blocks.qkv_bias = vector(config.qkv_bias, config.q_size() + 2 * config.kv_size());
        blocks.q_norm = vector(config.qk_norm, config.head_dim);
        blocks.k_norm = vector(config.qk_norm, config.head_dim);
        blocks.o = packed({Linear::o});
        blocks.o_bias = vector(config.o_bias, hidden);
        blocks.mlp_norm = reserve(floats(hidden));
        blocks.gate_up = packed({Linear::gate, Linear::up});
        blocks.gate_up_bias = vector(config.mlp_bias, 2 * config.intermediate_size);
        blocks.down = packed({Linear::down});
        blocks.down_bias = vector(config.mlp_bias, hidden);
        layers_.push_back(blocks);
    }
    final_norm_ = reserve(floats(hidden));
    head_ = reserve(backend.packed_bytes(dtype, config.vocab_size, hidden));
}

std::size_t WeightPlan::bytes() const {
    return bytes_;
}

WeightPlan::Block WeightPlan::reserve(std::size_t bytes) {
    const Block block{bytes_, bytes};
    bytes_ = (bytes_ + bytes + piece_alignment - 1) / piece_alignment * piece_alignment;
    return block;
}

void WeightPlan::check(std::span<const std::byte> memory) const {
    if (memory.size() == bytes_ &&
        reinterpret_cast<std::uintptr_t>(memory.data()) % memory_alignment == 0) {
        return;
    }
    throw ShapeError(
        {.what = "a block of memory does not fit the plan of the weights",
         .where = fmt::format("{} bytes at an address that is {} modulo {}; the plan "
                              "has {} bytes",
                              memory.size(),
                              reinterpret_cast<std::uintptr_t>(memory.data()) % memory_alignment,
                              memory_alignment, bytes_),
         .remedy = "allocate bytes() bytes, aligned to 64"});
}

void WeightPlan::fill(std::span<std::byte> memory, const HfFolder& folder, Backend& backend) const {
    check(memory);
    Filler filler(*this, memory, folder, backend);
    filler.embedding(embedding_, config_.tied_head ? &head_ : nullptr);
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
        const LayerBlocks& blocks = layers_[static_cast<std::size_t>(layer)];
        const std::string prefix = fmt::format("model.layers.{}.", layer);
        filler.vector(blocks.attention_norm, prefix + "input_layernorm.weight");
        filler.product(blocks.qkv, blocks.qkv_bias, layer, {Linear::q, Linear::k, Linear::v});
        if (config_.qk_norm) {
            filler.vector(blocks.q_norm, prefix + "self_attn.q_norm.weight");
            filler.vector(blocks.k_norm, prefix + "self_attn.k_norm.weight");
        }
        filler.product(blocks.o, blocks.o_bias, layer, {Linear::o});
        filler.vector(blocks.mlp_norm, prefix + "post_attention_layernorm.weight");
        filler.product(blocks.gate_up, blocks.gate_up_bias, layer, {Linear::gate, Linear::up});
        filler.product(blocks.down, blocks.down_bias, layer, {Linear::down});
    }
    filler.vector(final_norm_, "model.norm.weight");
    if (!config_.tied_head) filler.head(head_);
}

Weights WeightPlan::view(std::span<const std::byte> memory) const {
    check(memory);
    const auto packed = [&](const Block& block, std::int64_t out, std::int64_t in) {
        return PackedWeight{memory.data() + block.offset, block.bytes, dtype_, out, in};
    };
    const auto vector = [&](const Block& block) {
        return block.bytes > 0 ? floats_at(memory, block.offset) : nullptr;
    };
    const auto linear = [&](const Block& block, const Block& bias, std::vector<Linear> parts) {
        const Product product = product_of(config_, std::move(parts));
        return LinearWeight{packed(block, product.out, product.in), vector(bias)};
    };
    Weights weights;
    // Views have no constness of their own; nothing writes through this one.
    weights.embedding = fp32_view(const_cast<float*>(floats_at(memory, embedding_.offset)),
                                  config_.vocab_size, config_.hidden_size);
    for (const LayerBlocks& blocks : layers_) {
        LayerWeights layer;
        layer.attention_norm = vector(blocks.attention_norm);
        layer.qkv = linear(blocks.qkv, blocks.qkv_bias, {Linear::q, Linear::k, Linear::v});
        layer.q_norm = vector(blocks.q_norm);
        layer.k_norm = vector(blocks.k_norm);
        layer.o = linear(blocks.o, blocks.o_bias, {Linear::o});
        layer.mlp_norm = vector(blocks.mlp_norm);
        layer.gate_up = linear(blocks.gate_up, blocks.gate_up_bias, {Linear::gate, Linear::up});
        layer.down = linear(blocks.down, blocks.down_bias, {Linear::down});
        weights.layers.push_back(layer);
    }
    weights.final_norm = vector(final_norm_);
    weights.head = packed(head_, config_.vocab_size, config_.hidden_size);
    return weights;
}

}  // namespace fedit
