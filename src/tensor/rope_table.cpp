// tensor/rope_table.cpp: the table of rotary positions.
#include "tensor/rope_table.h"

#include <algorithm>
#include <cmath>

namespace fedit {

void RopeTable::cover(std::int64_t last_position, std::span<const float> inv_freq,
                      float attention_scale) {
    if (!std::ranges::equal(inv_freq, inv_freq_) || attention_scale != attention_scale_) {
        inv_freq_.assign(inv_freq.begin(), inv_freq.end());
        attention_scale_ = attention_scale;
        values_.clear();
    }
    const std::size_t row = 2 * half();
    const std::size_t known = row == 0 ? 0 : values_.size() / row;
    const auto wanted = static_cast<std::size_t>(last_position + 1);
    if (wanted <= known) return;
    values_.resize(wanted * row);
    for (std::size_t p = known; p < wanted; ++p) {
        for (std::size_t i = 0; i < half(); ++i) {
            // The angle is an fp32 product, as in Hugging Face.
            const double angle = static_cast<float>(p) * inv_freq_[i];
            values_[p * row + i] = static_cast<float>(std::cos(angle)) * attention_scale;
            values_[p * row + half() + i] = static_cast<float>(std::sin(angle)) * attention_scale;
        }
    }
}

}  // namespace fedit
