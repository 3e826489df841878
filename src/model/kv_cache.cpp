// model/kv_cache.cpp: rows of the cache.
#include "fedit/model/kv_cache.h"

#include <fmt/format.h>

#include <numeric>

#include "fedit/core/error.h"

namespace fedit {

KvCache::KvCache(const ModelConfig& config, Backend& backend, Dtype dtype,
                 std::span<const std::int64_t> capacity)
    : width_(2 * config.kv_size()),
      dtype_(dtype),
      row_(capacity.size() + 1, 0),
      length_(capacity.size(), 0) {
    std::partial_sum(capacity.begin(), capacity.end(), row_.begin() + 1);
    const auto elements = static_cast<std::size_t>(config.layers * row_.back() * width_);
    memory_ = DeviceBuffer(backend, elements * size_of(dtype));
}

std::size_t KvCache::at(std::int64_t sequence) const {
    if (sequence < 0 || sequence >= sequences()) {
        throw ShapeError({.what = fmt::format("there is no cached sequence {}", sequence),
                          .where = fmt::format("a cache of {} sequences", sequences()),
                          .remedy = "this is a mistake in the program: please report it"});
    }
    return static_cast<std::size_t>(sequence);
}

std::int64_t KvCache::length(std::int64_t sequence) const {
    return length_[at(sequence)];
}

std::int64_t KvCache::capacity(std::int64_t sequence) const {
    return row_[at(sequence) + 1] - row_[at(sequence)];
}

void KvCache::append(std::int64_t sequence, std::int64_t tokens) {
    std::int64_t& length = length_[at(sequence)];
    if (tokens < 0 || length + tokens > capacity(sequence)) {
        throw ShapeError(
            {.what = fmt::format("{} tokens do not fit behind {} cached ones", tokens, length),
             .where = fmt::format("sequence {}, room for {}", sequence, capacity(sequence)),
             .remedy = "this is a mistake in the program: please report it"});
    }
    length += tokens;
}

TensorView KvCache::layer(std::size_t index) const {
    const std::int64_t rows = row_.back();
    const std::size_t bytes = static_cast<std::size_t>(rows * width_) * size_of(dtype_);
    return dense_view(memory_.data() + index * bytes, dtype_, rows, width_);
}

}  // namespace fedit
