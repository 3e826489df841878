// tensor/cuda/rotary.h: rotary positions in device memory.
#pragma once

#include <cstdint>

namespace fedit::cuda {

/// As fedit::Rotary, where a table (tensor/rope_table.h) stands for frequencies and scale: row p
/// holds head_dim / 2 cosines of position p, then as many sines. None if both are null.
struct DeviceRotary {
    const std::int32_t* positions = nullptr;  ///< of each row
    const float* table = nullptr;             ///< 16-byte aligned
};

}  // namespace fedit::cuda
