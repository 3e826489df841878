// tensor/cuda/host_arrays.h: small host arrays that kernels read: positions, tokens, row counters,
// begins of sequences.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "tensor/cuda/content_cache.h"
#include "tensor/cuda/staging.h"

namespace fedit::cuda {

/// Device copies by content; an array that came before, from whatever address, is not copied again.
/// For work of the staging's stream.
class HostArrays {
public:
    explicit HostArrays(Staging& staging) : staging_(staging) {}

    /// Valid for work that is put on the stream before ContentCache::slots - 1 other arrays are
    /// asked for.
    template <class T>
    const T* on_device(std::span<const T> values) {
        return static_cast<const T*>(upload(std::as_bytes(values)));
    }

private:
    /// Slots grow by doubling, since to free one waits for the device.
    static constexpr std::size_t smallest_slot = 4096;

    const void* upload(std::span<const std::byte> content) {
        const auto [slot, fresh] = cache_.find(content);
        std::byte* const memory =
            memory_[slot].bytes(std::bit_ceil(std::max(content.size(), smallest_slot)));
        if (fresh) {
            staging_.upload(memory, content);
            cache_.keep(slot);
        }
        return memory;
    }

    Staging& staging_;
    ContentCache cache_;
    std::array<DeviceScratch, ContentCache::slots> memory_;
};

}  // namespace fedit::cuda
