// tensor/cuda/layers.cpp: what stands between a model's products: norms, rotations, SwiGLU, rows
// picked by number.
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cuda/cuda_backend.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/token_groups.h"

namespace fedit::cuda {

void CudaBackend::rms_norm(TensorView y, TensorView x, TensorView residual, const float* gain,
                           float eps) {
    check::rms_norm(y, x, residual);
    fedit::cuda::rms_norm(y, x, residual, gain, eps, stream());
    finish("rms_norm");
}

void CudaBackend::rms_norm_backward(TensorView dx, TensorView dy, TensorView x, const float* gain,
                                    float eps) {
    check::same_shape("rms_norm_backward", "x", x, "dy", dy);
    check::same_shape("rms_norm_backward", "x", x, "dx", dx);
    fedit::cuda::rms_norm_backward(dx, dy, x, gain, eps, stream());
    finish("rms_norm_backward");
}

void CudaBackend::head_rms_norm(TensorView y, TensorView x, std::int64_t heads, const float* gain,
                                float eps) {
    check::head_rms_norm(y, x, heads);
    fedit::cuda::head_rms_norm(y, x, heads, gain, eps, stream());
    finish("head_rms_norm");
}

void CudaBackend::head_rms_norm_backward(TensorView dx, TensorView dy, TensorView x,
                                         std::int64_t heads, const float* gain, float eps) {
    check::head_rms_norm(dx, x, heads);
    check::same_shape("head_rms_norm_backward", "x", x, "dy", dy);
    fedit::cuda::head_rms_norm_backward(dx, dy, x, heads, gain, eps, stream());
    finish("head_rms_norm_backward");
}

void CudaBackend::rms_norm_dgain(std::span<float> dgain, TensorView dy, TensorView x, float eps) {
    check::rms_norm_dgain(dgain, dy, x);
    const auto width = static_cast<std::int64_t>(dgain.size());
    auto* const partial = scratch_.array<float>(rms_norm_dgain_scratch(x.rows, x.cols, width));
    fedit::cuda::rms_norm_dgain(dgain.data(), width, dy, x, eps, partial, stream());
    finish("rms_norm_dgain");
}

const float* CudaBackend::rope_table(std::int64_t last_position, std::span<const float> inv_freq,
                                     float attention_scale) {
    rope_table_.cover(last_position, inv_freq, attention_scale);
    const std::span<const float> values = rope_table_.values();
    const bool there = std::ranges::equal(rope_inv_freq_, inv_freq) &&
                       rope_scale_ == attention_scale && rope_floats_ == values.size();
    if (!there) {
        rope_floats_ = 0;  // stays so if the upload throws
        staging_.upload(rope_memory_.bytes(values.size_bytes()), std::as_bytes(values));
        rope_inv_freq_.assign(inv_freq.begin(), inv_freq.end());
        rope_scale_ = attention_scale;
        rope_floats_ = values.size();
    }
    return rope_memory_.array<const float>(0);
}

DeviceRotary CudaBackend::rotary_on_device(const Rotary& rotary) {
    if (rotary.inv_freq.empty()) return {};
    return {.positions = arrays_.on_device(rotary.positions),
            .table = rope_table(*std::ranges::max_element(rotary.positions), rotary.inv_freq,
                                rotary.attention_scale)};
}

void CudaBackend::rope(TensorView x, std::int64_t heads, const Rotary& rotary, bool inverse) {
    check::rope(x, heads, rotary);
    if (x.rows == 0) return;
    fedit::cuda::rope(x, heads, rotary_on_device(rotary), inverse, stream());
    finish("rope");
}

void CudaBackend::swiglu(TensorView y, TensorView gate, TensorView up) {
    check::swiglu(y, gate, up);
    fedit::cuda::swiglu(y, gate, up, stream());
    finish("swiglu");
}

void CudaBackend::swiglu_backward(TensorView dgate, TensorView dup, TensorView dy, TensorView gate,
                                  TensorView up) {
    check::swiglu_backward(dgate, dup, dy, gate, up);
    fedit::cuda::swiglu_backward(dgate, dup, dy, gate, up, stream());
    finish("swiglu_backward");
}

void CudaBackend::embedding(TensorView y, TensorView table, std::span<const std::int32_t> tokens) {
    check::embedding(y, table, tokens);
    fedit::cuda::embedding(y, table, arrays_.on_device(tokens), stream());
    finish("embedding");
}

void CudaBackend::embedding_backward(TensorView dtable, TensorView dy,
                                     std::span<const std::int32_t> tokens) {
    check::embedding(dy, dtable, tokens);
    const TokenGroups groups = group_tokens(tokens);
    fedit::cuda::embedding_backward(
        dtable, dy,
        {.count = static_cast<std::int64_t>(groups.token.size()),
         .token = arrays_.on_device(std::span<const std::int32_t>(groups.token)),
         .begin = arrays_.on_device(std::span<const std::int64_t>(groups.begin)),
         .order = arrays_.on_device(std::span<const std::int64_t>(groups.order))},
        stream());
    finish("embedding_backward");
}

void CudaBackend::gather_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    check::row_list("gather_rows", y, x, rows);
    fedit::cuda::gather_rows(y, x, arrays_.on_device(rows), stream());
    finish("gather_rows");
}

void CudaBackend::scatter_add_rows(TensorView y, TensorView x, std::span<const std::int64_t> rows) {
    check::row_list("scatter_add_rows", x, y, rows);
    fedit::cuda::scatter_add_rows(y, x, arrays_.on_device(rows), stream());
    finish("scatter_add_rows");
}

}  // namespace fedit::cuda
