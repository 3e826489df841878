// tensor/cuda/content_cache.h: remembers the newest few arrays by what they hold, so that those
// that every layer of a pass is given are uploaded once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace fedit::cuda {

/// Which of a fixed number of slots holds an array. Arrays are told apart by every byte.
class ContentCache {
public:
    /// Enough for all that a pass repeats: an adapter's pointers come once a layer and product.
    static constexpr std::size_t slots = 512;

    struct Place {
        std::size_t slot = 0;
        bool fresh = false;  ///< the slot held something else: the caller fills it
    };

    /// A fresh slot stays unknown until keep(): what could not be copied is not there.
    Place find(std::span<const std::byte> content) {
        const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
            return entry.used > 0 && entry.holds(content);
        });
        const bool fresh = known == entries_.end();
        const auto entry = fresh ? oldest() : known;
        if (fresh) entry->content.assign(content.begin(), content.end());
        entry->used = fresh ? 0 : ++now_;
        return {static_cast<std::size_t>(entry - entries_.begin()), fresh};
    }
    void keep(std::size_t slot) { entries_[slot].used = ++now_; }

private:
    struct Entry {
        std::vector<std::byte> content;
        std::uint64_t used = 0;  ///< time of the last use; 0: empty

        /// By memcmp: std::ranges::equal goes a byte at a time, 32 us for the counters of 8192
        /// rows.
        bool holds(std::span<const std::byte> other) const {
            return content.size() == other.size() &&
                   (other.empty() || std::memcmp(content.data(), other.data(), other.size()) == 0);
        }
    };
    std::vector<Entry>::iterator oldest() {
        return std::min_element(entries_.begin(), entries_.end(),
                                [](const Entry& a, const Entry& b) { return a.used < b.used; });
    }

    std::vector<Entry> entries_ = std::vector<Entry>(slots);
    std::uint64_t now_ = 0;
};

}  // namespace fedit::cuda
