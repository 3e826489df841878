// tensor/cpu/rows.cpp: rows picked by number: embedding, gather, scatter.
#include <cstring>

#include "tensor/check.h"
#include "tensor/cpu/cpu_backend.h"
#include "tensor/cpu/parallel.h"

namespace fedit::cpu {

namespace {

/// Rows of work that one task takes.
constexpr std::int64_t block_rows = 32;

template <class Index>
void copy_rows(int threads, TensorView y, TensorView x, std::span<const Index> rows) {
    parallel_blocks(threads, y.rows, block_rows,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t i = begin; i < end; ++i) {
                            std::memcpy(y.row(i), x.row(rows[static_cast<std::size_t>(i)]),
                                        static_cast<std::size_t>(y.cols) * sizeof(float));
                        }
                    });
}

}  // namespace

void CpuBackend::embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens) {
    check::embedding(y, table, tokens);
    check::only_fp32("embedding", {y});
    copy_rows(threads_, y, table, tokens);
}

void CpuBackend::embedding_backward(TensorView dtable, TensorView dy,
                                    std::span<const std::int32_t> tokens) {
    check::embedding(dy, dtable, tokens);
    check::only_fp32("embedding_backward", {dy});
    // A token may come twice, so threads share out columns, not rows.
    constexpr std::int64_t block_columns = 64;
    parallel_blocks(threads_, dy.cols, block_columns,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t t = 0; t < dy.rows; ++t) {
                            float* to = dtable.row(tokens[static_cast<std::size_t>(t)]);
                            const float* from = dy.row(t);
                            for (std::int64_t j = begin; j < end; ++j) to[j] += from[j];
                        }
                    });
}

void CpuBackend::gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    check::row_list("gather_rows", y, x, rows);
    check::only_fp32("gather_rows", {x});
    copy_rows(threads_, y, x, rows);
}

void CpuBackend::scatter_add_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    check::row_list("scatter_add_rows", x, y, rows);
    check::only_fp32("scatter_add_rows", {x});
    parallel_blocks(threads_, x.rows, block_rows,
                    [&](std::int64_t begin, std::int64_t end) noexcept {
                        for (std::int64_t i = begin; i < end; ++i) {
                            float* to = y.row(rows[static_cast<std::size_t>(i)]);
                            const float* from = x.row(i);
                            for (std::int64_t j = 0; j < x.cols; ++j) to[j] += from[j];
                        }
                    });
}

}  // namespace fedit::cpu
