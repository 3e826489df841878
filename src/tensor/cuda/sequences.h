// tensor/cuda/sequences.h: packed sequences whose boundaries are in device memory.
#pragma once

#include <cstdint>

namespace fedit::cuda {

/// As fedit::Sequences: begin (count + 1, the first 0); kv_begin and kv_end (count) both null where
/// keys are the queries' rows.
struct DeviceSequences {
    std::int64_t count = 0;
    const std::int64_t* begin = nullptr;
    const std::int64_t* kv_begin = nullptr;
    const std::int64_t* kv_end = nullptr;
};

}  // namespace fedit::cuda
