// tests/tensor/cpu_layouts.h: CPU back ends of either layout of weights, whatever this CPU is.
#pragma once

#include <memory>

#include "tensor/cpu/cpu_backend.h"

namespace fedit::test {

enum class CpuLayout { panels, blocked };

inline std::unique_ptr<Backend> cpu_backend_of(CpuLayout layout, int threads) {
    return std::make_unique<cpu::CpuBackend>(
        threads,
        cpu::ProductChoice{.layout = layout == CpuLayout::panels ? cpu::WeightLayout::panels
                                                                 : cpu::WeightLayout::blocked});
}

}  // namespace fedit::test
