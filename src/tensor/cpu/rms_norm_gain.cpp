// tensor/cpu/rms_norm_gain.cpp: the gradient of RMSNorm's gain, where it trains.
#include <cmath>

#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

void CpuBackend::rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x, float eps) {
    check::rms_norm_dgain(dgain, dy, x);
    check::only_fp32("rms_norm_dgain", {x});
    const auto width = static_cast<std::int64_t>(dgain.size());
    const std::int64_t parts = x.cols / width;
    float* const inverse_rms = scratch_.floats(x.rows * parts);
    parallel_blocks(threads_, x.rows, 16, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t t = begin; t < end; ++t) {
            for (std::int64_t part = 0; part < parts; ++part) {
                const float* const values = x.row(t) + part * width;
                double squares = 0;
                for (std::int64_t j = 0; j < width; ++j) squares += double{values[j]} * values[j];
                inverse_rms[t * parts + part] = static_cast<float>(
                    1 / std::sqrt(squares / static_cast<double>(width) + double{eps}));
            }
        }
    });
    // Threads share out columns, so that each sum runs over the rows in their order.
    constexpr std::int64_t block_columns = 64;
    parallel_blocks(
        threads_, width, block_columns, [&](std::int64_t begin, std::int64_t end) noexcept {
            for (std::int64_t i = 0; i < x.rows * parts; ++i) {
                const std::int64_t t = i / parts, first = i % parts * width;
                const float* const gradient = dy.row(t) + first;
                const float* const values = x.row(t) + first;
                for (std::int64_t j = begin; j < end; ++j) {
                    dgain[static_cast<std::size_t>(j)] += gradient[j] * values[j] * inverse_rms[i];
                }
            }
        });
}

}  // namespace fedit::cpu
