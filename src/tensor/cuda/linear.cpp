// tensor/cuda/linear.cpp: products with weights, their gradients, and the loss through the head.
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cuda/cuda_backend.h"
#include "tensor/cuda/kernels.h"

namespace fedit::cuda {

namespace {

/// Values that are uploaded at once where they are converted afterwards, in floats.
constexpr std::int64_t pack_chunk = std::int64_t{16} << 20;

/// Elements between a packed weight's rows: 16-byte aligned rows, which fast products want.
constexpr std::int64_t weight_stride(std::int64_t in) {
    return (in + 7) / 8 * 8;
}

/// A packed weight is one row-major copy: cuBLASLt multiplies by it and by its transpose.
TensorView weight_view(const std::byte* memory, Dtype dtype, std::int64_t out, std::int64_t in) {
    return {const_cast<std::byte*>(memory), dtype, out, in, weight_stride(in)};
}

TensorView view_of(const PackedWeight& w) {
    return weight_view(w.data, w.dtype, w.out, w.in);
}

/// A bias as a matrix whose rows are all the same.
TensorView every_row(const float* bias, std::int64_t rows, std::int64_t cols) {
    return {const_cast<float*>(bias), Dtype::fp32, rows, cols, 0};
}

Result result_of(bool accumulate) {
    return accumulate ? Result::add : Result::write;
}

}  // namespace

std::size_t CudaBackend::packed_bytes(Dtype dtype, std::int64_t out, std::int64_t in) const {
    const auto bytes = static_cast<std::size_t>(out * weight_stride(in)) * size_of(dtype);
    return (bytes + 255) / 256 * 256;
}

void CudaBackend::pack(std::byte* memory, Dtype dtype, std::span<const float> values,
                       std::int64_t out, std::int64_t in) {
    check::pack(dtype, values, out, in);
    const TensorView to = weight_view(memory, dtype, out, in);
    const std::int64_t rows_at_once = std::clamp<std::int64_t>(pack_chunk / in, 1, out);
    for (std::int64_t row = 0; row < out; row += rows_at_once) {
        const std::int64_t rows = std::min(rows_at_once, out - row);
        auto* const chunk = scratch_.array<float>(rows * in);
        staging_.upload(chunk, std::as_bytes(values.subspan(static_cast<std::size_t>(row * in),
                                                            static_cast<std::size_t>(rows * in))));
        convert(to.row_range(row, rows), fp32_view(chunk, rows, in), stream());
    }
    finish("pack");
}

void CudaBackend::pack_bf16(std::byte* memory, Dtype dtype, HostParts rows, std::int64_t out,
                            std::int64_t in) {
    check::pack_bf16(dtype, rows, out, in);
    const TensorView to = weight_view(memory, dtype, out, in);
    const std::size_t row_bytes = static_cast<std::size_t>(in) * 2;
    const std::int64_t rows_at_once = std::max<std::int64_t>(1, pack_chunk / in);
    std::int64_t row = 0;
    for (std::span<const std::byte> part : rows) {
        while (!part.empty()) {
            const std::size_t bytes =
                std::min(part.size(), static_cast<std::size_t>(rows_at_once) * row_bytes);
            const auto count = static_cast<std::int64_t>(bytes / row_bytes);
            const TensorView target = to.row_range(row, count);
            if (dtype == Dtype::bf16 && to.stride == in) {
                staging_.upload(target.data, part.first(bytes));
            } else {
                std::byte* const chunk = scratch_.bytes(bytes);
                staging_.upload(chunk, part.first(bytes));
                convert(target, TensorView{chunk, Dtype::bf16, count, in, in}, stream());
            }
            part = part.subspan(bytes);
            row += count;
        }
    }
    finish("pack_bf16");
}

void CudaBackend::repack(std::byte* memory, Dtype dtype, const float* values, std::int64_t out,
                         std::int64_t in) {
    convert(weight_view(memory, dtype, out, in), fp32_view(const_cast<float*>(values), out, in),
            stream());
    finish("repack");
}

void CudaBackend::linear(TensorView y, TensorView x, const PackedWeight& w, const float* bias,
                         bool accumulate) {
    check::linear(y, x, w);
    if (y.rows == 0) return;
    if (bias != nullptr) {
        // The product's sums begin with it. cuBLASLt's own epilogue wants the bias in y's type.
        const TensorView rows = every_row(bias, y.rows, y.cols);
        if (accumulate) {
            add(y, rows, stream());
        } else {
            convert(y, rows, stream());
        }
    }
    products_.multiply(forward(y, in_dtype(x, w.dtype, converted_), view_of(w),
                               result_of(accumulate || bias != nullptr)));
    finish("linear");
}

void CudaBackend::linear_dx(TensorView dx, TensorView dy, const PackedWeight& w, bool accumulate) {
    check::linear_dx(dx, dy, w);
    if (dx.rows == 0) return;
    products_.multiply(
        input_gradient(dx, in_dtype(dy, w.dtype, converted_), view_of(w), result_of(accumulate)));
    finish("linear_dx");
}

void CudaBackend::linear_dw(TensorView dw, float* dbias, TensorView dy, TensorView x) {
    check::linear_dw(dw, dbias, dy, x);
    if (dw.data != nullptr) products_.multiply(weight_gradient(dw, dy, x));
    if (dbias != nullptr) {
        auto* const partial = scratch_.array<float>(column_sums_scratch(dy.rows, dy.cols));
        column_sums(dbias, dy, partial, stream());
    }
    finish("linear_dw");
}

void CudaBackend::cross_entropy(std::span<double> loss, TensorView dx, TensorView dhead,
                                TensorView x, const PackedWeight& head,
                                std::span<const std::int32_t> targets,
                                std::span<const float> weight, std::span<std::int32_t> best) {
    check::cross_entropy(loss, dx, dhead, x, head, targets, weight, best);
    if (x.rows == 0) return;
    const bool backward = dx.data != nullptr;
    const TensorView w = view_of(head);
    const std::int64_t chunk = loss_chunk_rows(x.rows, head.out);
    const std::int64_t stride = logits_stride(head.out);
    std::byte* const logits_memory = logits_.bytes(loss_chunk_bytes(x.rows, head.out));
    // Losses first: doubles, then the best tokens.
    auto* const device_loss = losses_.array<double>(2 * x.rows);
    auto* const device_best =
        best.empty() ? nullptr : reinterpret_cast<std::int32_t*>(device_loss + x.rows);
    const std::int32_t* const device_targets = arrays_.on_device(targets);
    const float* const device_weight = backward ? arrays_.on_device(weight) : nullptr;
    for (std::int64_t begin = 0; begin < x.rows; begin += chunk) {
        const std::int64_t rows = std::min(chunk, x.rows - begin);
        const TensorView logits{logits_memory, Dtype::fp32, rows, head.out, stride};
        const TensorView chunk_x = in_dtype(x.row_range(begin, rows), w.dtype, converted_);
        products_.multiply(forward(logits, chunk_x, w, Result::write));
        fedit::cuda::cross_entropy(
            device_loss + begin, device_best == nullptr ? nullptr : device_best + begin, logits,
            device_targets + begin, backward ? device_weight + begin : nullptr, w.dtype, stream());
        if (!backward) continue;
        const TensorView dlogits = gradient_view(logits, w.dtype);
        products_.multiply(input_gradient(dx.row_range(begin, rows), dlogits, w, Result::write));
        if (dhead.data != nullptr) {
            products_.multiply(weight_gradient(dhead, dlogits, chunk_x));
        }
    }
    staging_.download(std::as_writable_bytes(loss), device_loss);
    if (!best.empty()) staging_.download(std::as_writable_bytes(best), device_best);
}

}  // namespace fedit::cuda
