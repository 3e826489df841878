// model/kv_cache.h: keys and values of sequences that grow token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fedit/model/model_config.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// For each layer one matrix of rotated keys and of values; sequence i owns capacity[i] adjacent
/// rows of it, of which it uses the first length(i). Decoder::extend fills it.
class KvCache {
public:
    /// Room for capacity[i] tokens of sequence i; all are empty. `dtype`: the activations' of the
    /// decoder that fills it.
    KvCache(const ModelConfig& config, Backend& backend, Dtype dtype,
            std::span<const std::int64_t> capacity);

    std::int64_t sequences() const { return static_cast<std::int64_t>(length_.size()); }
    std::int64_t length(std::int64_t sequence) const;    ///< tokens held
    std::int64_t capacity(std::int64_t sequence) const;  ///< tokens there is room for
    std::int64_t first_row(std::int64_t sequence) const { return row_[at(sequence)]; }

    /// Counts `tokens` more rows as used. Throws ShapeError where there is no room.
    void append(std::int64_t sequence, std::int64_t tokens);
    /// rows x (keys, values), each kv_size wide.
    TensorView layer(std::size_t index) const;

private:
    std::size_t at(std::int64_t sequence) const;

    std::int64_t width_;
    Dtype dtype_;
    std::vector<std::int64_t> row_, length_;  ///< row_: sequences + 1 offsets
    DeviceBuffer memory_;
};

}  // namespace fedit
