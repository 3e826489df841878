// tests/tensor/row_independent_backend.h: the layout of AVX-512 products, emulated on any CPU.
#pragma once

#include <memory>

#include "tensor/cpu/cpu_backend.h"

namespace fedit::test {

/// A CPU back end in whose products a row's bits depend on no other row, nor on the threads.
inline std::unique_ptr<Backend> row_independent_backend(int threads) {
    return std::make_unique<cpu::CpuBackend>(
        threads, cpu::ProductChoice{.layout = cpu::WeightLayout::blocked});
}

}  // namespace fedit::test
