// tensor/cuda/half_ring.h: shares out a buffer that a device reads while the host fills it: small
// pieces side by side, and a wait only where one half has been used up.
#pragma once

#include <algorithm>
#include <cstddef>

namespace fedit::cuda {

/// Where the next bytes go. A caller that gets `turned` must see to it, before it writes, that all
/// pieces of this half that were given out before have been read.
class HalfRing {
public:
    struct Piece {
        std::size_t offset = 0, bytes = 0;
        std::size_t half = 0;  ///< 0 or 1: the one that the piece lies in
        bool turned = false;   ///< it is the first of its half, and the other half is done with
    };

    /// `half_bytes` > 0, a multiple of 256.
    explicit HalfRing(std::size_t half_bytes) : half_bytes_(half_bytes) {}

    /// At most `wanted` bytes, and at least one if any is wanted: what is left of a half, if that
    /// is less. Pieces begin at multiples of 256.
    Piece take(std::size_t wanted) {
        bool turned = false;
        if (used_ == half_bytes_) {
            half_ = 1 - half_;
            used_ = 0;
            turned = true;
        }
        const std::size_t bytes = std::min(wanted, half_bytes_ - used_);
        const Piece piece{half_ * half_bytes_ + used_, bytes, half_, turned};
        used_ = std::min(half_bytes_, used_ + (bytes + 255) / 256 * 256);
        return piece;
    }

private:
    std::size_t half_bytes_;
    std::size_t half_ = 0, used_ = 0;
};

}  // namespace fedit::cuda
