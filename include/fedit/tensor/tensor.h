// tensor/tensor.h: element types and views of row-major matrices that a back end works on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fedit {

enum class Dtype : std::uint8_t { fp32, bf16 };
std::string_view to_string(Dtype dtype);
constexpr std::size_t size_of(Dtype dtype) {
    return dtype == Dtype::fp32 ? 4 : 2;
}

/// A matrix in a back end's memory, not owned: rows x cols, row t begins at data + t * stride
/// elements. A null `data` means "not wanted" where an operation says so.
struct TensorView {
    void* data = nullptr;
    Dtype dtype = Dtype::fp32;
    std::int64_t rows = 0, cols = 0, stride = 0;

    float* floats() const { return static_cast<float*>(data); }  ///< of an fp32 matrix
    float* row(std::int64_t t) const { return floats() + t * stride; }
    /// Columns [begin, begin + count).
    TensorView columns(std::int64_t begin, std::int64_t count) const {
        return {static_cast<std::byte*>(data) + begin * static_cast<std::int64_t>(size_of(dtype)),
                dtype, rows, count, stride};
    }
    /// Rows [begin, begin + count).
    TensorView row_range(std::int64_t begin, std::int64_t count) const {
        return {static_cast<std::byte*>(data) +
                    begin * stride * static_cast<std::int64_t>(size_of(dtype)),
                dtype, count, cols, stride};
    }
};

/// A dense matrix at `data`.
inline TensorView dense_view(void* data, Dtype dtype, std::int64_t rows, std::int64_t cols) {
    return {data, dtype, rows, cols, cols};
}

/// A dense fp32 matrix at `data`.
inline TensorView fp32_view(float* data, std::int64_t rows, std::int64_t cols) {
    return dense_view(data, Dtype::fp32, rows, cols);
}

}  // namespace fedit
