// model/decoder.cpp: the decoder's public face: checks a batch, sizes the arena, runs the passes.
#include "fedit/model/decoder.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "fedit/core/error.h"
#include "fedit/model/dense.h"
#include "model/decoder_impl.h"

namespace fedit {

namespace {

std::vector<std::int64_t> module_ranks(const Layout& layout) {
    std::vector<std::int64_t> ranks;
    if (is_dense(layout)) return ranks;
    for (const Module& module : layout.modules) ranks.push_back(module.spans[0].rows);
    return ranks;
}

Stage stage_of(Linear linear) {
    if (linear < Linear::o) return Stage::qkv;
    if (linear == Linear::o) return Stage::o;
    return linear == Linear::down ? Stage::down : Stage::gate_up;
}

std::int64_t lowest_adapter(const AdapterMap& adapters, std::int64_t layers) {
    for (std::int64_t layer = 0; layer < layers; ++layer) {
        for (std::size_t i = 0; i < linear_count; ++i) {
            const auto linear = static_cast<Linear>(i);  // linear layers are in stage order
            if (adapters.module(layer, linear) < 0) continue;
            return layer * stage_count + static_cast<std::int64_t>(stage_of(linear));
        }
    }
    return std::numeric_limits<std::int64_t>::max();
}

[[noreturn]] void refuse(std::string what, std::string where) {
    throw ShapeError({.what = std::move(what),
                      .where = std::move(where),
                      .remedy = "this is a mistake in the program: please report it"});
}

}  // namespace

Decoder::Impl::Impl(const ModelConfig& model_config, const Weights& model_weights,
                    const Layout& adapter_layout, Backend& compute, Recompute mode)
    : config(model_config),
      weights(model_weights),
      layout(adapter_layout),
      backend(compute),
      recompute(mode),
      dtype(compute.activation_dtype(model_weights.head.dtype)),
      dense(config, layout),
      inv_freq(rope_inverse_frequencies(config)),
      adapters(layout, config.layers),
      ranks(module_ranks(layout)),
      // The embedding lies below all stages.
      lowest(dense.trains ? -1 : lowest_adapter(adapters, config.layers)) {}

ActivationPlan Decoder::Impl::plan() const {
    return {.config = config,
            .adapters = adapters,
            .ranks = ranks,
            .lowest_layer = std::max<std::int64_t>(lowest, 0) / stage_count,
            .dtype = dtype,
            .recompute = recompute,
            .dense = dense.trains,
            .computes_act_again = backend.computes_act_again()};
}

std::size_t Decoder::Impl::activation_bytes(const PassSize& size, Pass pass) const {
    Arena counter(nullptr);
    place_activations(plan(), size, pass, counter);
    // A product may copy its operand and its result into the form that its kernel wants.
    const std::int64_t copied = config.hidden_size + 2 * config.intermediate_size;
    return counter.used() + static_cast<std::size_t>(size.rows * copied) * sizeof(float) +
           packed_dense_bytes() + backend.loss_bytes(size.target_rows, config.vocab_size);
}

void Decoder::Impl::reserve(const PassSize& size, Pass pass) {
    Arena counter(nullptr);
    place_activations(plan(), size, pass, counter);
    const std::size_t bytes = counter.used();
    if (bytes <= arena.bytes()) return;
    arena = DeviceBuffer();  // the old arena goes first: both at once may not fit
    arena = DeviceBuffer(backend, bytes);
}

void Decoder::Impl::check_batch(const PackedBatch& batch) const {
    const auto rows = static_cast<std::size_t>(batch.rows());
    const auto covers = [&](const std::vector<std::int64_t>& begin) {
        return !begin.empty() && begin.front() == 0 && begin.back() == batch.rows() &&
               std::is_sorted(begin.begin(), begin.end());
    };
    const bool fits = batch.positions.size() == rows && batch.row_counter.size() == rows &&
                      covers(batch.sequence_begin) && covers(batch.slot_begin) &&
                      (batch.sequence_length.empty() ||
                       batch.sequence_length.size() + 1 == batch.sequence_begin.size()) &&
                      batch.targets.size() == batch.target_rows.size() &&
                      batch.target_weight.size() == batch.target_rows.size();
    if (!fits) {
        refuse("the parts of a packed batch differ in length",
               fmt::format("{} rows, {} positions, {} counters, {} target rows, {} targets, {} "
                           "weights",
                           rows, batch.positions.size(), batch.row_counter.size(),
                           batch.target_rows.size(), batch.targets.size(),
                           batch.target_weight.size()));
    }
    const auto& target_rows = batch.target_rows;
    const bool ascending = std::adjacent_find(target_rows.begin(), target_rows.end(),
                                              std::greater_equal<>()) == target_rows.end();
    if (target_rows.empty()) return;
    if (!ascending || target_rows.front() < 0 || target_rows.back() >= batch.rows()) {
        refuse("target rows must be distinct, ascending and inside the batch",
               fmt::format("{} target rows from {} to {} of {} rows", target_rows.size(),
                           target_rows.front(), target_rows.back(), rows));
    }
}

void Decoder::Impl::check_slots(const PackedBatch& batch, Pass pass) const {
    if (slots_.empty() && pass == Pass::evaluate) return;
    if (slots_.size() + 1 != batch.slot_begin.size()) {
        refuse("a batch has other slots than adapters were given",
               fmt::format("{} slots, {} adapters", batch.slot_begin.size() - 1, slots_.size()));
    }
    for (const AdapterSlot& slot : slots_) {
        const bool whole =
            slot.x != nullptr && (pass == Pass::evaluate || slot.gradient != nullptr);
        if (!whole || slot.dropout != slots_.front().dropout) {
            refuse("an adapter slot lacks its vector or gradient, or has a dropout of its own",
                   fmt::format("dropout {} and {}", slot.dropout, slots_.front().dropout));
        }
    }
    if (pass == Pass::train && layout.modules.empty()) {
        refuse("nothing trains: the layout has no modules", "training pass");
    }
}

void Decoder::Impl::begin(const PackedBatch& batch, std::span<const AdapterSlot> adapter_slots,
                          Pass pass) {
    slots_ = adapter_slots;
    pass_ = pass;
    check_batch(batch);
    check_slots(batch, pass);
    const PassSize size{batch.rows(), static_cast<std::int64_t>(batch.target_rows.size())};
    reserve(size, pass);
    Arena pieces(arena.data());
    activations = place_activations(plan(), size, pass, pieces);

    top_counter_.clear();
    for (const std::int64_t row : batch.target_rows) {
        top_counter_.push_back(batch.row_counter[static_cast<std::size_t>(row)]);
    }
    top_slot_begin_.clear();
    for (const std::int64_t row : batch.slot_begin) {
        const auto& rows = batch.target_rows;
        top_slot_begin_.push_back(std::lower_bound(rows.begin(), rows.end(), row) - rows.begin());
    }
    all_rows_ = {batch.slot_begin, batch.row_counter};
    top_rows_ = {top_slot_begin_, top_counter_};
    slot_keys_.clear();
    for (const AdapterSlot& slot : slots_) slot_keys_.push_back(slot.dropout_key);
}

CachedSequences Decoder::Impl::append(const PackedBatch& batch, KvCache& cache,
                                      std::span<const std::int64_t> which) const {
    check_batch(batch);
    if (which.size() + 1 != batch.sequence_begin.size() || batch.target_rows.empty()) {
        refuse("a batch has no target, or other sequences than cached ones were named",
               fmt::format("{} targets, {} sequences, {} cached", batch.target_rows.size(),
                           batch.sequence_begin.size() - 1, which.size()));
    }
    CachedSequences cached{cache, {}, {}};
    for (std::size_t i = 0; i < which.size(); ++i) {
        const std::int64_t first = batch.sequence_begin[i], last = batch.sequence_begin[i + 1];
        const std::int64_t before = cache.length(which[i]);
        for (std::int64_t row = first; row < last; ++row) {
            const std::int64_t position = batch.positions[static_cast<std::size_t>(row)];
            if (position == before + row - first) continue;
            refuse("a position does not follow the cached ones",
                   fmt::format("position {} of row {}, {} cached", position, row, before));
        }
        cache.append(which[i], last - first);
        cached.begin.push_back(cache.first_row(which[i]));
        cached.end.push_back(cached.begin.back() + cache.length(which[i]));
    }
    return cached;
}

std::vector<float> Decoder::Impl::head_logits() {
    const std::int64_t rows = activations.y.rows, vocab = config.vocab_size;
    std::vector<float> out(static_cast<std::size_t>(rows * vocab));
    const auto bytes = std::as_writable_bytes(std::span(out));
    if (logits.bytes() < bytes.size()) {
        logits = DeviceBuffer();
        logits = DeviceBuffer(backend, bytes.size());
    }
    backend.linear(fp32_view(logits.floats(), rows, vocab), activations.y, weights.head, nullptr,
                   false);
    backend.download(bytes, logits.data());
    return out;
}

Decoder::Decoder(const ModelConfig& config, const Weights& weights, const Layout& layout,
                 Backend& backend, Recompute recompute)
    : impl_(std::make_unique<Impl>(config, weights, layout, backend, recompute)) {}

Decoder::~Decoder() = default;

Dtype Decoder::activation_dtype() const {
    return impl_->dtype;
}

void Decoder::load(const float* x) {
    if (impl_->dense.trains) impl_->load(x);
}

std::size_t Decoder::activation_bytes(const PassSize& size, Pass pass) const {
    return impl_->activation_bytes(size, pass);
}

void Decoder::reserve(const PassSize& size, Pass pass) {
    impl_->reserve(size, pass);
}

void Decoder::evaluate(const PackedBatch& batch, std::span<const AdapterSlot> slots,
                       std::span<double> loss, std::span<std::int32_t> best) {
    impl_->forward(batch, slots, Pass::evaluate);
    if (batch.target_rows.empty()) return;
    impl_->backend.cross_entropy(loss, {}, {}, impl_->activations.y, impl_->weights.head,
                                 batch.targets, batch.target_weight, best);
}

void Decoder::train(const PackedBatch& batch, std::span<const AdapterSlot> slots,
                    std::span<double> loss) {
    impl_->forward(batch, slots, Pass::train);
    if (batch.target_rows.empty()) return;
    Activations& a = impl_->activations;
    impl_->backend.cross_entropy(loss, a.dh.row_range(0, a.y.rows), impl_->head_gradient(), a.y,
                                 impl_->weights.head, batch.targets, batch.target_weight, {});
    impl_->backward(batch);
}

std::vector<float> Decoder::logits(const PackedBatch& batch, std::span<const AdapterSlot> slots) {
    PackedBatch every_row = batch;
    every_row.target_rows.resize(batch.tokens.size());
    std::iota(every_row.target_rows.begin(), every_row.target_rows.end(), 0);
    every_row.targets.assign(batch.tokens.size(), 0);
    every_row.target_weight.assign(batch.tokens.size(), 0.0F);
    impl_->forward(every_row, slots, Pass::evaluate);
    return impl_->head_logits();
}

std::vector<float> Decoder::extend(const PackedBatch& batch, std::span<const AdapterSlot> slots,
                                   KvCache& cache, std::span<const std::int64_t> which) {
    const CachedSequences cached = impl_->append(batch, cache, which);
    impl_->forward(batch, slots, Pass::evaluate, &cached);
    return impl_->head_logits();
}

}  // namespace fedit
