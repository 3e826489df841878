// tensor/cpu/fixed_point.cpp: a client's update as 64-bit integers, which have no order of
// addition.
#include <cmath>

#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

namespace {

constexpr double words_per_unit = 0x1p52;
constexpr std::int64_t block_elements = 1 << 16;  // below that a thread costs more than it saves

}  // namespace

void CpuBackend::accumulate_fixed(std::span<std::uint64_t> words, std::span<const float> x,
                                  std::span<const float> x0, double weight) {
    check::same_size("accumulate_fixed", "words", words.size(), "x", x.size());
    check::same_size("accumulate_fixed", "words", words.size(), "x0", x0.size());
    std::uint64_t* sum = words.data();
    const float* client = x.data();
    const float* global = x0.data();
    parallel_blocks(threads_, static_cast<std::int64_t>(words.size()), block_elements,
                    [=](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t i = begin; i < end; ++i) {
                            const double difference =
                                static_cast<double>(client[i]) - static_cast<double>(global[i]);
                            const double product = difference * weight;
                            sum[i] +=
                                static_cast<std::uint64_t>(std::llrint(product * words_per_unit));
                        }
                    });
}

}  // namespace fedit::cpu
