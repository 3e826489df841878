// tensor/rope_table.h: cosines and sines of rotary positions, computed once, the same on every
// back end.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedit {

/// Row p holds attention_scale * cos(p * inv_freq[i]), then the sines.
class RopeTable {
public:
    /// Makes the table hold positions 0..last_position for these frequencies.
    void cover(std::int64_t last_position, std::span<const float> inv_freq, float attention_scale);

    /// All rows that are known, of 2 * inv_freq.size() floats each.
    std::span<const float> values() const { return values_; }
    const float* cosines(std::int64_t position) const { return &values_[position * 2 * half()]; }
    const float* sines(std::int64_t position) const { return cosines(position) + half(); }

private:
    std::size_t half() const { return inv_freq_.size(); }

    std::vector<float> inv_freq_;
    float attention_scale_ = 0;
    std::vector<float> values_;
};

}  // namespace fedit
