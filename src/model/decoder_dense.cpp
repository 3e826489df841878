// model/decoder_dense.cpp: weights of the base that train, packed anew after each change.
#include "model/decoder_impl.h"

namespace fedit {

namespace {

constexpr std::size_t alignment = 64;

/// Calls visit(weight, offset) for each product that trains.
template <class Visit>
void for_each_product(const DenseOffsets& dense, Weights& weights, const Visit& visit) {
    const auto look = [&](PackedWeight& weight, std::int64_t offset) {
        if (offset != frozen) visit(weight, offset);
    };
    look(weights.head, dense.head);
    for (std::size_t i = 0; i < dense.layers.size(); ++i) {
        const DenseLayer& from = dense.layers[i];
        LayerWeights& to = weights.layers[i];
        look(to.qkv.weight, from.qkv.weight);
        look(to.o.weight, from.o.weight);
        look(to.gate_up.weight, from.gate_up.weight);
        look(to.down.weight, from.down.weight);
    }
}

std::size_t padded_bytes(const Backend& backend, const PackedWeight& weight) {
    const std::size_t bytes = backend.packed_bytes(weight.dtype, weight.out, weight.in);
    return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace

std::size_t Decoder::Impl::packed_dense_bytes() const {
    std::size_t bytes = 0;
    Weights shapes = weights;
    for_each_product(dense, shapes, [&](const PackedWeight& weight, std::int64_t) {
        bytes += padded_bytes(backend, weight);
    });
    return bytes;
}

void Decoder::Impl::load(const float* x) {
    if (packed_dense.bytes() == 0) packed_dense = DeviceBuffer(backend, packed_dense_bytes());
    std::byte* memory = packed_dense.data();
    for_each_product(dense, weights, [&](PackedWeight& weight, std::int64_t offset) {
        backend.repack(memory, weight.dtype, x + offset, weight.out, weight.in);
        weight.data = memory;
        weight.bytes = backend.packed_bytes(weight.dtype, weight.out, weight.in);
        memory += padded_bytes(backend, weight);
    });
    const auto point = [&](const float*& weight, std::int64_t offset) {
        if (offset != frozen) weight = x + offset;
    };
    // Views have no constness of their own; nothing writes through this one.
    if (dense.embedding != frozen) weights.embedding.data = const_cast<float*>(x + dense.embedding);
    point(weights.final_norm, dense.final_norm);
    for (std::size_t i = 0; i < dense.layers.size(); ++i) {
        const DenseLayer& from = dense.layers[i];
        LayerWeights& to = weights.layers[i];
        point(to.attention_norm, from.attention_norm);
        point(to.q_norm, from.q_norm);
        point(to.k_norm, from.k_norm);
        point(to.mlp_norm, from.mlp_norm);
        point(to.qkv.bias, from.qkv.bias);
        point(to.o.bias, from.o.bias);
        point(to.gate_up.bias, from.gate_up.bias);
        point(to.down.bias, from.down.bias);
    }
}

}  // namespace fedit
