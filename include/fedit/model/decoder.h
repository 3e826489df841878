// model/decoder.h: forward and backward of a LLaMA-style decoder over packed sequences; adapters
// train beside a frozen base, or weights of the base themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fedit/model/adapter.h"
#include "fedit/model/kv_cache.h"
#include "fedit/model/weights.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// Packed tokens without padding. Rows are sorted by slot (cohort member).
struct PackedBatch {
    std::vector<std::int32_t> tokens, positions;  ///< one a row; positions restart a sequence
    std::vector<std::int64_t> sequence_begin{0};  ///< sequences + 1
    /// Tokens of each sequence where the last have no row; empty: each ends with its last row. RoPE
    /// of type dynamic looks at it.
    std::vector<std::int64_t> sequence_length;
    std::vector<std::int64_t> slot_begin{0};  ///< slots + 1
    std::vector<std::int64_t> row_counter;    ///< a token's place in its client's whole batch
    std::vector<std::int64_t> target_rows;    ///< rows that predict a labelled token
    std::vector<std::int32_t> targets;        ///< what they predict
    std::vector<float> target_weight;         ///< 1 / labelled targets of the client's batch
    std::int64_t rows() const { return static_cast<std::int64_t>(tokens.size()); }
};

/// One slot's adapter; `x` and `gradient` are back-end memory. They follow the layout; the gradient
/// is added to; it may be null when only evaluating. A dense layout has one slot, and takes its
/// values from Decoder::load(), not from `x`.
struct AdapterSlot {
    const float* x = nullptr;
    float* gradient = nullptr;
    double dropout = 0;
    std::uint64_t dropout_key = 0;
};

/// The sizes that decide how much memory a pass needs.
struct PassSize {
    std::int64_t rows = 0, target_rows = 0;
};
enum class Pass { evaluate, train };

/// What a training pass computes a second time in its backward instead of keeping it. Losses and
/// gradients have the same bits.
enum class Recompute : std::uint8_t {
    none,
    light,  ///< what norms and SwiGLU give
    layer   ///< all of a layer but its input
};

/// Not thread-safe: it owns the activations of one pass.
class Decoder {
public:
    /// `layout` has no modules when there is no adapter; a dense one replaces weights of the base.
    /// All must outlive the decoder.
    Decoder(const ModelConfig& config, const Weights& weights, const Layout& layout,
            Backend& backend, Recompute recompute = Recompute::none);
    ~Decoder();

    /// What a KvCache for extend() holds.
    Dtype activation_dtype() const;

    /// For a dense layout: computes with these values from now on. `x` (back-end memory, as long
    /// as the layout) stays the caller's and must stay in place; after a change of its values call
    /// this again. Does nothing for other layouts.
    void load(const float* x);

    /// Bytes of activations that a pass of this size needs, and of packed weights that train.
    std::size_t activation_bytes(const PassSize& size, Pass pass) const;
    /// Allocates for passes up to this size; larger ones grow it.
    void reserve(const PassSize& size, Pass pass);

    /// The host waits for the back end once in each of the following: where losses or logits come
    /// to host memory. loss[i]: cross-entropy of target_rows[i], unweighted. best[i], unless empty:
    /// the token with the largest logit there, the lowest of equals. `slots` may be empty: base
    /// alone.
    void evaluate(const PackedBatch& batch, std::span<const AdapterSlot> slots,
                  std::span<double> loss, std::span<std::int32_t> best = {});
    /// The same with the slots' dropout, and adds sum_i weight_i dloss_i/dadapter to the gradients.
    void train(const PackedBatch& batch, std::span<const AdapterSlot> slots,
               std::span<double> loss);
    /// Appends the batch's sequence i to sequence which[i] (distinct) of `cache`; its positions go
    /// on from there. Logits of the target rows (target rows x vocab, host memory). Throws
    /// ShapeError if a position does not follow or there is no room.
    std::vector<float> extend(const PackedBatch& batch, std::span<const AdapterSlot> slots,
                              KvCache& cache, std::span<const std::int64_t> which);
    /// Logits of every row (rows x vocab, host memory): for tests.
    std::vector<float> logits(const PackedBatch& batch, std::span<const AdapterSlot> slots);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
