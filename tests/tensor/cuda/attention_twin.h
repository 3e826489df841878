// tests/tensor/cuda/attention_twin.h: the kernels of attention with either choice of products.
// Included before the kernels of others, in place of emulate.h.
#pragma once

#include "tests/tensor/cuda/emulate_group.h"

#include "tensor/cuda/attention.cuh"
#include "tensor/cuda/attention_group_products.cuh"

namespace fedit::test {

/// Whose products the kernels on tiles use.
enum class By { warps, groups };

/// Starts the kernels on tiles as a card does that has such products.
template <class Launch>
class Tiles {
public:
    Tiles(const Launch& launch, By by) : launch_(launch), by_(by) {}

    void forward(const cuda::Attention<cuda::Bf16>& a) const {
        start(a, [&](const auto& tiles) { tiles.forward(a); });
    }
    void backward(const cuda::Attention<cuda::Bf16>& a) const {
        start(a, [&](const auto& tiles) { tiles.backward(a); });
    }

private:
    template <class Body>
    void start(const cuda::Attention<cuda::Bf16>& a, const Body& body) const {
        if (by_ == By::groups && a.head_dim <= cuda::ByGroups::widest) {
            body(cuda::TiledAttention<cuda::ByGroups, Launch>(launch_));
        } else {
            body(cuda::TiledAttention<cuda::ByWarps, Launch>(launch_));
        }
    }

    const Launch& launch_;
    By by_;
};

}  // namespace fedit::test
