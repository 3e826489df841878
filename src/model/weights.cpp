// model/weights.cpp: plans the block that holds the frozen base, fills it, and hands out views.
#include "fedit/model/weights.h"

#include <fmt/core.h>

#include <algorithm>
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

/// Reads tensors into the block, one product at a time.
class WeightPlan::Filler {
public:
    Filler(const WeightPlan& plan, std::span<std::byte> memory, const HfFolder& folder,
           Backend& backend, int threads, const BytesRead& told)
        : plan_(plan),
          memory_(memory),
          folder_(folder),
          backend_(backend),
          threads_(threads),
          told_(told),
          all_(folder.bytes()) {}

    void vector(const Block& block, const std::string& name) {
        const std::span<float> values = staging(block.bytes / sizeof(float));
        folder_.read(name, values, threads_);
        upload(block, values);
        tell({name});
    }

    /// The tensors, one below the other, as one weight.
    void matrix(const Block& block, const std::vector<std::string>& names, std::int64_t out,
                std::int64_t in) {
        std::byte* const to = memory_.data() + block.offset;
        const auto is_bf16 = [&](const std::string& name) {
            return folder_.type(name) == StoredType::bf16;
        };
        if (std::all_of(names.begin(), names.end(), is_bf16)) {
            std::vector<std::span<const std::byte>> parts;
            for (const std::string& name : names) parts.push_back(folder_.stored(name, threads_));
            backend_.pack_bf16(to, plan_.dtype_, parts, out, in);
            tell(names);
            return;
        }
        const std::span<float> values = staging(static_cast<std::size_t>(out * in));
        std::size_t begin = 0;
        for (const std::string& name : names) {
            const auto size = static_cast<std::size_t>(folder_.elements(name));
            folder_.read(name, values.subspan(begin, size), threads_);
            begin += size;
        }
        backend_.pack(to, plan_.dtype_, values, out, in);
        tell(names);
    }

    void product(const Block& weight, const Block& bias, std::int64_t layer,
                 std::vector<Linear> parts) {
        const Product all = product_of(plan_.config_, std::move(parts));
        std::vector<std::string> names;
        for (const Linear part : all.parts) {
            names.push_back("model." + module_name(layer, part) + ".weight");
        }
        matrix(weight, names, all.out, all.in);
        if (bias.bytes == 0) return;
        const std::span<float> biases = staging(bias.bytes / sizeof(float));
        names.clear();
        std::size_t row = 0;
        for (const Linear part : all.parts) {
            names.push_back("model." + module_name(layer, part) + ".bias");
            const auto out = static_cast<std::size_t>(linear_shape(plan_.config_, part).out);
            folder_.read(names.back(), biases.subspan(row, out));
            row += out;
        }
        upload(bias, biases);
        tell(names);
    }

private:
    void tell(const std::vector<std::string>& names) {
        if (!told_) return;
        for (const std::string& name : names) done_ += folder_.bytes(name);
        told_(std::min(done_, all_));  // a tied head is read twice
    }
    /// Memory for `count` floats, the same each time: what was there before is lost.
    std::span<float> staging(std::size_t count) {
        if (count > staged_) {
            staging_.reset();
            staging_ = allocate_aligned(count * sizeof(float));
            staged_ = count;
        }
        return {reinterpret_cast<float*>(staging_.get()), count};
    }
    void upload(const Block& block, std::span<const float> values) {
        backend_.upload(memory_.data() + block.offset, std::as_bytes(values));
    }

    const WeightPlan& plan_;
    std::span<std::byte> memory_;
    const HfFolder& folder_;
    Backend& backend_;
    int threads_;
    const BytesRead& told_;
    std::int64_t all_, done_ = 0;
    AlignedMemory staging_;
    std::size_t staged_ = 0;
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

void WeightPlan::fill(std::span<std::byte> memory, const HfFolder& folder, Backend& backend,
                      int threads, const BytesRead& told) const {
    check(memory);
    Filler filler(*this, memory, folder, backend, threads, told);
    const std::string embedding = "model.embed_tokens.weight";
    filler.vector(embedding_, embedding);
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
    filler.matrix(head_, {config_.tied_head ? embedding : "lm_head.weight"}, config_.vocab_size,
                  config_.hidden_size);
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
