// tests/support/naive.h: each tensor operation as plain loops in double precision, which back ends
// are held to. Sizes are for tests: nothing here is fast.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fedit/tensor/backend.h"

namespace fedit::test {

/// A dense matrix of doubles, row major.
struct Matrix {
    Matrix() = default;
    Matrix(std::int64_t r, std::int64_t c, double value = 0)
        : rows(r), cols(c), values(static_cast<std::size_t>(r * c), value) {}

    double& operator()(std::int64_t i, std::int64_t j) {
        return values[static_cast<std::size_t>(i * cols + j)];
    }
    double operator()(std::int64_t i, std::int64_t j) const {
        return values[static_cast<std::size_t>(i * cols + j)];
    }

    std::int64_t rows = 0, cols = 0;
    std::vector<double> values;
};

/// Rows [begin, begin + count).
Matrix rows_of(const Matrix& m, std::int64_t begin, std::int64_t count);
Matrix transpose(const Matrix& m);
/// The `heads` equal parts of each row, as rows; and back.
Matrix split_heads(const Matrix& x, std::int64_t heads);
Matrix join_heads(const Matrix& x, std::int64_t heads);
/// Elementwise.
Matrix times(const Matrix& a, const Matrix& b);
/// sum(a .* b): the loss whose gradient with respect to b is a.
double dot(const Matrix& a, const Matrix& b);

/// d loss / d x by central differences, an element at a time.
Matrix finite_difference(const std::function<double(const Matrix&)>& loss, Matrix x);

namespace naive {

Matrix multiply(const Matrix& a, const Matrix& b);

struct LoraForward {
    Matrix s, y;  ///< y is what the adapter adds
};
struct LoraGradients {
    Matrix dx, ds, da, db;
};
/// `mask` (rows x in) holds 0 or 1 / (1 - p).
LoraForward lora(const Matrix& x, const Matrix& mask, const Matrix& a, const Matrix& b,
                 double scale);
LoraGradients lora_backward(const Matrix& dy, const Matrix& x, const Matrix& mask, const Matrix& a,
                            const Matrix& b, double scale);
/// The mask of rows [row, row + rows) of one slot for a linear layer, by scalar Philox.
Matrix dropout_mask(const Dropout& dropout, std::uint32_t module, std::size_t slot,
                    std::int64_t row, std::int64_t rows, std::int64_t cols);

Matrix rms_norm(const Matrix& x, const Matrix& gain, double eps);
Matrix rms_norm_backward(const Matrix& dy, const Matrix& x, const Matrix& gain, double eps);

/// Rotation by `sign` times the angle; -1 is the inverse.
Matrix rope(const Matrix& x, std::int64_t heads, std::span<const std::int32_t> positions,
            std::span<const float> inv_freq, double attention_scale, double sign);

struct Attention {
    Matrix out;
    Matrix lse;  ///< heads x tokens
};
struct AttentionGradients {
    Matrix dq, dk, dv;
};
Attention attention(const Matrix& q, const Matrix& k, const Matrix& v, const AttentionShape& shape,
                    const Sequences& sequences);
AttentionGradients attention_backward(const Matrix& dout, const Matrix& q, const Matrix& k,
                                      const Matrix& v, const AttentionShape& shape,
                                      const Sequences& sequences);

Matrix swiglu(const Matrix& gate, const Matrix& up);
struct SwigluGradients {
    Matrix dgate, dup;
};
SwigluGradients swiglu_backward(const Matrix& dy, const Matrix& gate, const Matrix& up);

/// Loss of each row (n x 1).
Matrix cross_entropy(const Matrix& x, const Matrix& head, std::span<const std::int32_t> targets);
struct HeadGradients {
    Matrix dx, dhead;
};
HeadGradients cross_entropy_backward(const Matrix& x, const Matrix& head,
                                     std::span<const std::int32_t> targets,
                                     std::span<const float> weight);

}  // namespace naive

}  // namespace fedit::test
