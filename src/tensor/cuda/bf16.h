// tensor/cuda/bf16.h: the bf16 number as kernels hold it, on a GPU and on the CPU of a twin test.
#pragma once

#include <cstdint>

namespace fedit::cuda {

/// The upper half of an fp32. Converted by to_float and to_bf16, which warp.cuh offers; our own
/// type, so that a machine without the CUDA toolkit can test kernels that use it.
struct Bf16 {
    std::uint16_t bits;
};

}  // namespace fedit::cuda
