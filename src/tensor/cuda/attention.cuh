// tensor/cuda/attention.cuh: which kernels compute attention, and their launches.
#pragma once

#include <cmath>
#include <limits>

#include "fedit/core/error.h"
#include "fedit/tensor/backend.h"
#include "tensor/cuda/attention_plain.cuh"
#include "tensor/cuda/attention_warp_products.cuh"
#include "tensor/cuda/elementwise.cuh"

namespace fedit::cuda {

/// The operands of attention and, where given, of its backward.
struct AttentionViews {
    TensorView q, k, v, out, dout{}, dq{}, dk{}, dv{};
};

/// Throws InputError if a head is wider than the kernels' registers.
inline void require_head_dim(const AttentionShape& shape) {
    if (shape.head_dim <= head_dim_limit) return;
    throw InputError({.what = "attention heads of " + std::to_string(shape.head_dim) +
                              " columns are not supported on a GPU",
                      .where = "config.json of the model, field head_dim",
                      .remedy = "use --device cpu; the CUDA kernels go up to " +
                                std::to_string(head_dim_limit)});
}

template <class T>
Attention<T> attention_of(const AttentionViews& views, float* lse, float* delta,
                          const AttentionShape& shape, const DeviceSequences& sequences) {
    constexpr std::int64_t all = std::numeric_limits<int>::max();
    return {.q = rows<T>(views.q),
            .k = rows<T>(views.k),
            .v = rows<T>(views.v),
            .out = rows<T>(views.out),
            .dout = rows<T>(views.dout),
            .dq = rows<T>(views.dq),
            .dk = rows<T>(views.dk),
            .dv = rows<T>(views.dv),
            .lse = lse,
            .delta = delta,
            .sequences = sequences,
            .rotary = {},
            .tokens = views.q.rows,
            .heads = static_cast<int>(shape.heads),
            .kv_heads = static_cast<int>(shape.kv_heads),
            .head_dim = static_cast<int>(shape.head_dim),
            .window = static_cast<int>(shape.window > 0 ? std::min(shape.window, all) : all),
            .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)))};
}

/// Whether tensor cores can do it: bf16 in whole 16-byte vectors.
inline bool fits_tiles(const AttentionViews& views, const AttentionShape& shape) {
    if (views.q.dtype != Dtype::bf16 || shape.head_dim % 8 != 0) return false;
    for (const TensorView& view :
         {views.q, views.k, views.v, views.out, views.dout, views.dq, views.dk, views.dv}) {
        if (!fits(view, full_width<Bf16>)) return false;
    }
    return true;
}

/// Whether the kernels on tiles can turn dq and dk back before they round and store them: a thread
/// holds both columns of a pair if heads fill a tile, and a warp holds whole heads.
constexpr bool turns_in_registers(std::int64_t head_dim) {
    return head_dim == 64 || head_dim == 128;
}

/// Calls body(Width<D>()) for the narrowest tile that holds a head. Family: ByWarps or ByGroups.
template <class Family, class Body>
void choose_head(std::int64_t head_dim, const Body& body) {
    if (head_dim <= 64) {
        body(Width<64>());
    } else if (head_dim <= 128) {
        body(Width<128>());
    } else if constexpr (Family::widest > 128) {
        body(Width<256>());
    }
}

/// One block for each tile of `rows` and head, or one warp for each row and head.
template <class P>
Grid tile_grid(int rows, const Attention<Bf16>& a, int heads, std::size_t shared_bytes) {
    return {.x = tile_numbers(a.tokens, a.sequences.count, rows),
            .threads = P::threads,
            .y = heads,
            .shared_bytes = shared_bytes};
}
inline Grid row_grid(std::int64_t tokens, std::int64_t heads) {
    return {
        .x = ceil_div(tokens, plain_warps), .threads = plain_threads, .y = static_cast<int>(heads)};
}

/// Starts the kernels on tiles, for heads of at most Family::widest columns.
template <class Family, class Launch>
class TiledAttention {
public:
    explicit TiledAttention(const Launch& launch) : launch_(launch) {}

    void forward(const Attention<Bf16>& a) const {
        choose_head<Family>(a.head_dim, [&](auto width) {
            using P = typename Family::template Forward<decltype(width)::value>;
            using Size = ForwardTile<P>;
            launch_(tile_grid<P>(Size::queries, a, a.heads, Size::bytes), attention_kernel<P>, a);
        });
    }
    void backward(const Attention<Bf16>& a) const {
        choose_head<Family>(a.head_dim, [&](auto width) {
            using P = typename Family::template Backward<decltype(width)::value>;
            backward<P, Owner::queries>(a, a.heads);
            backward<P, Owner::keys>(a, a.kv_heads);
        });
    }

private:
    template <class P, Owner owner>
    void backward(const Attention<Bf16>& a, int heads) const {
        using Size = BackwardTile<P, owner>;
        launch_(tile_grid<P>(Size::own, a, heads, Size::bytes), attention_backward_kernel<P, owner>,
                a);
    }

    const Launch& launch_;
};

/// `tiles` starts the kernels on tiles, as TiledAttention does.
template <class Launch, class Tiles>
void launch_attention(const Launch& launch, const Tiles& tiles, TensorView out, float* lse,
                      TensorView q, TensorView k, TensorView v, const AttentionShape& shape,
                      const DeviceSequences& sequences) {
    require_head_dim(shape);
    if (q.rows == 0) return;
    const AttentionViews views{.q = q, .k = k, .v = v, .out = out};
    if (fits_tiles(views, shape)) {
        return tiles.forward(attention_of<Bf16>(views, lse, nullptr, shape, sequences));
    }
    choose({q}, [&](auto type, auto /*width*/) {
        using T = decltype(type);
        launch(row_grid(q.rows, shape.heads), plain_attention_kernel<T>,
               attention_of<T>(views, lse, nullptr, shape, sequences));
    });
}

template <class Launch, class T>
void launch_plain_backward(const Launch& launch, const Attention<T>& a) {
    launch(row_grid(a.tokens, a.heads), plain_attention_backward_kernel<T, Owner::queries>, a);
    launch(row_grid(a.tokens, a.kv_heads), plain_attention_backward_kernel<T, Owner::keys>, a);
}

/// `lse` is what forward wrote; `delta`: attention_backward_scratch(...) floats.
template <class Launch, class Tiles>
void launch_attention_backward(const Launch& launch, const Tiles& tiles,
                               const AttentionViews& views, const float* lse, float* delta,
                               const AttentionShape& shape, const DeviceSequences& sequences,
                               const DeviceRotary& rotary) {
    require_head_dim(shape);
    if (views.q.rows == 0) return;
    const bool on_tiles = fits_tiles(views, shape);
    const bool turns = on_tiles && turns_in_registers(shape.head_dim);
    const TensorView dout = part_view(views.dout, shape.head_dim);
    choose({dout, part_view(views.out, shape.head_dim)}, [&](auto type, auto n) {
        using T = decltype(type);
        auto a = attention_of<T>(views, const_cast<float*>(lse), delta, shape, sequences);
        if (turns) a.rotary = rotary;
        launch(row_grid(a.tokens, a.heads), attention_delta_kernel<T, n()>, a);
        if constexpr (std::is_same_v<T, Bf16>) {
            if (on_tiles) return tiles.backward(a);
        }
        launch_plain_backward(launch, a);
    });
    if (turns || rotary.table == nullptr) return;
    launch_rope(launch, views.dq, shape.heads, rotary, true);
    launch_rope(launch, views.dk, shape.kv_heads, rotary, true);
}

}  // namespace fedit::cuda
