// tests/support/compare.h: random operands, their copies in a back end's memory, and comparison
// with tolerance.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "fedit/core/rng.h"
#include "fedit/tensor/backend.h"
#include "tests/support/naive.h"

namespace fedit::test {

/// Rows, columns, and the stride of rows (0: dense).
struct Shape {
    std::int64_t rows, cols, stride = 0;
};

inline std::string shape_name(const Shape& shape) {
    std::ostringstream name;
    name << shape.rows << "x" << shape.cols;
    if (shape.stride != 0) name << "s" << shape.stride;
    return name.str();
}

/// Standard normal values that an fp32 holds exactly; `client` tells streams apart.
inline Matrix random_matrix(std::int64_t rows, std::int64_t cols, std::uint32_t client,
                            double scale = 1) {
    RandomStream random(StreamKey{.seed = 5, .purpose = Purpose::synthetic_data, .client = client});
    Matrix m(rows, cols);
    for (double& value : m.values) value = static_cast<float>(scale * random.normal());
    return m;
}

/// head_dim / 2 inverse frequencies of rotary positions, of base 10000.
inline std::vector<float> rotary_frequencies(std::int64_t head_dim) {
    std::vector<float> all;
    for (std::int64_t i = 0; i < head_dim / 2; ++i) {
        const double share = static_cast<double>(2 * i) / static_cast<double>(head_dim);
        all.push_back(static_cast<float>(std::pow(10000.0, -share)));
    }
    return all;
}

/// Positions of packed sequences that start at `first` each.
inline std::vector<std::int32_t> rotary_positions(std::span<const std::int64_t> begin,
                                                  std::int64_t first) {
    std::vector<std::int32_t> all;
    for (std::size_t s = 0; s + 1 < begin.size(); ++s) {
        for (std::int64_t t = begin[s]; t < begin[s + 1]; ++t) {
            all.push_back(static_cast<std::int32_t>(first + t - begin[s]));
        }
    }
    return all;
}

inline std::vector<float> to_floats(const Matrix& m) {
    return std::vector<float>(m.values.begin(), m.values.end());
}

/// A matrix in a back end's memory. What lies between rows is watched. bf16 holds `values` exactly
/// or cuts them off.
class DeviceMatrix {
public:
    DeviceMatrix(Backend& backend, const Matrix& values, std::int64_t stride = 0,
                 Dtype dtype = Dtype::fp32)
        : backend_(backend),
          rows_(values.rows),
          cols_(values.cols),
          stride_(stride == 0 ? values.cols : stride),
          dtype_(dtype),
          memory_(backend, static_cast<std::size_t>(rows_ * stride_) * size_of(dtype)) {
        std::vector<std::byte> bytes(memory_.bytes());
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < stride_; ++j) {
                const float value = j < cols_ ? static_cast<float>(values(i, j)) : gap;
                // bf16 is the upper half of fp32, which lies last.
                std::memcpy(bytes.data() + at(i, j),
                            reinterpret_cast<const std::byte*>(&value) + (4 - size_of(dtype)),
                            size_of(dtype));
            }
        }
        backend_.upload(memory_.data(), bytes);
    }
    DeviceMatrix(Backend& backend, const Shape& shape)
        : DeviceMatrix(backend, Matrix(shape.rows, shape.cols), shape.stride) {}

    TensorView view() const { return {memory_.data(), dtype_, rows_, cols_, stride_}; }
    float* floats() const { return memory_.floats(); }
    /// The rows without what lies between them; fails the test if that was written to.
    Matrix values() const {
        std::vector<std::byte> bytes(memory_.bytes());
        backend_.download(bytes, memory_.data());
        Matrix result(rows_, cols_);
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < stride_; ++j) {
                float value = 0;
                std::memcpy(reinterpret_cast<std::byte*>(&value) + (4 - size_of(dtype_)),
                            bytes.data() + at(i, j), size_of(dtype_));
                if (j < cols_) {
                    result(i, j) = value;
                } else if (value != gap) {
                    ADD_FAILURE() << "written between rows, at (" << i << ", " << j << ")";
                }
            }
        }
        return result;
    }

private:
    static constexpr float gap = -12288;  // exact in bf16 too

    std::size_t at(std::int64_t i, std::int64_t j) const {
        return static_cast<std::size_t>(i * stride_ + j) * size_of(dtype_);
    }

    Backend& backend_;
    std::int64_t rows_, cols_, stride_;
    Dtype dtype_;
    DeviceBuffer memory_;
};

/// A packed weight and its memory.
class DeviceWeight {
public:
    DeviceWeight(Backend& backend, const Matrix& values, Dtype dtype = Dtype::fp32)
        : memory_(backend, backend.packed_bytes(dtype, values.rows, values.cols)),
          weight_{memory_.data(), memory_.bytes(), dtype, values.rows, values.cols} {
        backend.pack(memory_.data(), dtype, to_floats(values), values.rows, values.cols);
    }
    const PackedWeight& get() const { return weight_; }

private:
    DeviceBuffer memory_;
    PackedWeight weight_;
};

/// Every element within tolerance * (magnitude + |want| of the element), magnitude being the
/// largest |want| or `summed` if larger: fp32 sums round relative to what they sum (about
/// `summed`), not to what is left when it cancels. The default tolerance is 40 units of fp32
/// rounding.
inline testing::AssertionResult close(const Matrix& got, const Matrix& want,
                                      double tolerance = 40 * 6e-8, double summed = 0) {
    if (got.rows != want.rows || got.cols != want.cols) {
        return testing::AssertionFailure() << "got " << got.rows << " x " << got.cols << ", want "
                                           << want.rows << " x " << want.cols;
    }
    double largest = summed;
    for (const double value : want.values) largest = std::max(largest, std::abs(value));
    double worst = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < want.values.size(); ++i) {
        const double allowed = tolerance * (largest + std::abs(want.values[i]));
        const double error = std::abs(got.values[i] - want.values[i]);
        const double excess = std::isnan(error) ? INFINITY : error / std::max(allowed, 1e-30);
        if (excess > worst) {
            worst = excess;
            at = i;
        }
    }
    if (worst <= 1) return testing::AssertionSuccess();
    const auto cols = static_cast<std::size_t>(want.cols);
    return testing::AssertionFailure()
           << "worst at (" << at / cols << ", " << at % cols << "): got " << got.values[at]
           << ", want " << want.values[at] << ", error / tolerance " << worst;
}

/// Equal to the bit.
inline testing::AssertionResult same_bits(const Matrix& a, const Matrix& b) {
    const std::size_t bytes = a.values.size() * sizeof(double);
    if (a.values.size() == b.values.size() &&
        (bytes == 0 || std::memcmp(a.values.data(), b.values.data(), bytes) == 0)) {
        return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << "bits differ";
}

}  // namespace fedit::test
