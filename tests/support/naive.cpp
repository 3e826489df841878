// tests/support/naive.cpp: the operations of a decoder, as their formulas read.
#include "tests/support/naive.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "fedit/core/rng.h"

namespace fedit::test {

Matrix rows_of(const Matrix& m, std::int64_t begin, std::int64_t count) {
    Matrix part(count, m.cols);
    std::copy_n(m.values.begin() + begin * m.cols, count * m.cols, part.values.begin());
    return part;
}

Matrix transpose(const Matrix& m) {
    Matrix result(m.cols, m.rows);
    for (std::int64_t i = 0; i < m.rows; ++i) {
        for (std::int64_t j = 0; j < m.cols; ++j) result(j, i) = m(i, j);
    }
    return result;
}

Matrix split_heads(const Matrix& x, std::int64_t heads) {
    Matrix parts = x;  // a row's parts follow each other, so only the shape changes
    parts.rows = x.rows * heads;
    parts.cols = x.cols / heads;
    return parts;
}

Matrix join_heads(const Matrix& x, std::int64_t heads) {
    Matrix rows = x;
    rows.rows = x.rows / heads;
    rows.cols = x.cols * heads;
    return rows;
}

Matrix times(const Matrix& a, const Matrix& b) {
    Matrix result = a;
    for (std::size_t i = 0; i < a.values.size(); ++i) result.values[i] *= b.values[i];
    return result;
}

double dot(const Matrix& a, const Matrix& b) {
    return std::inner_product(a.values.begin(), a.values.end(), b.values.begin(), 0.0);
}

Matrix finite_difference(const std::function<double(const Matrix&)>& loss, Matrix x) {
    constexpr double h = 1e-5;  // error about h^2: 1e-10, rounding about 1e-16 / h
    Matrix gradient(x.rows, x.cols);
    for (std::size_t i = 0; i < x.values.size(); ++i) {
        const double value = x.values[i];
        x.values[i] = value + h;
        const double above = loss(x);
        x.values[i] = value - h;
        const double below = loss(x);
        x.values[i] = value;
        gradient.values[i] = (above - below) / (2 * h);
    }
    return gradient;
}

namespace naive {

Matrix multiply(const Matrix& a, const Matrix& b) {
    Matrix c(a.rows, b.cols);
    for (std::int64_t i = 0; i < a.rows; ++i) {
        for (std::int64_t p = 0; p < a.cols; ++p) {
            for (std::int64_t j = 0; j < b.cols; ++j) c(i, j) += a(i, p) * b(p, j);
        }
    }
    return c;
}

namespace {

Matrix scaled(Matrix m, double factor) {
    for (double& value : m.values) value *= factor;
    return m;
}

}  // namespace

LoraForward lora(const Matrix& x, const Matrix& mask, const Matrix& a, const Matrix& b,
                 double scale) {
    LoraForward result;
    result.s = multiply(times(x, mask), transpose(a));
    result.y = scaled(multiply(result.s, transpose(b)), scale);
    return result;
}

LoraGradients lora_backward(const Matrix& dy, const Matrix& x, const Matrix& mask, const Matrix& a,
                            const Matrix& b, double scale) {
    const Matrix dropped = times(x, mask);
    LoraGradients g;
    g.ds = scaled(multiply(dy, b), scale);
    g.db = scaled(multiply(transpose(dy), multiply(dropped, transpose(a))), scale);
    g.da = multiply(transpose(g.ds), dropped);
    g.dx = times(multiply(g.ds, a), mask);
    return g;
}

Matrix dropout_mask(const Dropout& dropout, std::uint32_t module, std::size_t slot,
                    std::int64_t row, std::int64_t rows, std::int64_t cols) {
    Matrix mask(rows, cols, 1.0);
    if (dropout.p == 0) return mask;
    const double threshold = std::floor(65536.0 * dropout.p + 0.5);
    const std::uint64_t key = dropout.slot_key[slot];
    for (std::int64_t i = 0; i < rows; ++i) {
        const auto place =
            static_cast<std::uint64_t>(dropout.row_counter[static_cast<std::size_t>(row + i)]);
        for (std::int64_t j = 0; j < cols; ++j) {
            const auto words = philox4x32(
                {static_cast<std::uint32_t>(j / 8), module, static_cast<std::uint32_t>(place),
                 static_cast<std::uint32_t>(place >> 32)},
                {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
            const std::uint32_t word = words[static_cast<std::size_t>(j % 8 / 2)];
            const std::uint32_t bits = j % 2 == 0 ? word & 0xffff : word >> 16;
            mask(i, j) = bits >= threshold ? 65536 / (65536 - threshold) : 0;
        }
    }
    return mask;
}

namespace {

double inverse_rms(const Matrix& x, std::int64_t row, double eps) {
    double squares = 0;
    for (std::int64_t j = 0; j < x.cols; ++j) squares += x(row, j) * x(row, j);
    return 1 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
}

}  // namespace

Matrix rms_norm(const Matrix& x, const Matrix& gain, double eps) {
    Matrix y = x;
    for (std::int64_t i = 0; i < x.rows; ++i) {
        const double r = inverse_rms(x, i, eps);
        for (std::int64_t j = 0; j < x.cols; ++j) y(i, j) = gain(0, j) * x(i, j) * r;
    }
    return y;
}

Matrix rms_norm_backward(const Matrix& dy, const Matrix& x, const Matrix& gain, double eps) {
    Matrix dx(x.rows, x.cols);
    for (std::int64_t i = 0; i < x.rows; ++i) {
        const double r = inverse_rms(x, i, eps);
        double along_x = 0;
        for (std::int64_t j = 0; j < x.cols; ++j) along_x += dy(i, j) * gain(0, j) * x(i, j);
        for (std::int64_t j = 0; j < x.cols; ++j) {
            dx(i, j) = r * gain(0, j) * dy(i, j) -
                       x(i, j) * r * r * r * along_x / static_cast<double>(x.cols);
        }
    }
    return dx;
}

Matrix rope(const Matrix& x, std::int64_t heads, std::span<const std::int32_t> positions,
            std::span<const float> inv_freq, double attention_scale, double sign) {
    const auto half = static_cast<std::int64_t>(inv_freq.size());
    Matrix y = x;
    for (std::int64_t t = 0; t < x.rows; ++t) {
        for (std::int64_t i = 0; i < half; ++i) {
            // The model defines the angle as an fp32 product.
            const double angle = static_cast<float>(positions[static_cast<std::size_t>(t)]) *
                                 inv_freq[static_cast<std::size_t>(i)];
            const double c = std::cos(angle) * attention_scale;
            const double s = sign * std::sin(angle) * attention_scale;
            for (std::int64_t h = 0; h < heads; ++h) {
                const std::int64_t low = h * 2 * half + i, high = low + half;
                y(t, low) = x(t, low) * c - x(t, high) * s;
                y(t, high) = x(t, high) * c + x(t, low) * s;
            }
        }
    }
    return y;
}

namespace {

/// A query of one head, and the keys [first, end) that it sees.
struct Query {
    std::int64_t head, row, first, end;
};

/// softmax(q k^T / sqrt(d)) of one query, and its log-sum-exp.
struct Weights {
    std::vector<double> values;
    double lse = 0;
};

Weights attention_weights(const Matrix& q, const Matrix& k, const AttentionShape& shape,
                          const Query& query) {
    const std::int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    const std::int64_t own = query.head * d, shared = query.head / group * d;
    Weights weights;
    for (std::int64_t u = query.first; u < query.end; ++u) {
        double score = 0;
        for (std::int64_t i = 0; i < d; ++i) score += q(query.row, own + i) * k(u, shared + i);
        weights.values.push_back(score / std::sqrt(static_cast<double>(d)));
    }
    const double max = *std::ranges::max_element(weights.values);
    double sum = 0;
    for (const double score : weights.values) sum += std::exp(score - max);
    weights.lse = max + std::log(sum);
    for (double& score : weights.values) score = std::exp(score - weights.lse);
    return weights;
}

void for_each_query(const AttentionShape& shape, const Sequences& sequences,
                    const std::function<void(const Query&)>& body) {
    for (std::size_t i = 0; i + 1 < sequences.begin.size(); ++i) {
        const std::int64_t begin = sequences.begin[i], end = sequences.begin[i + 1];
        const std::int64_t kv_begin = sequences.own_keys() ? begin : sequences.kv_begin[i];
        const std::int64_t kv_end = sequences.own_keys() ? end : sequences.kv_end[i];
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t own_key = kv_end - (end - row);
            std::int64_t first = kv_begin;
            while (shape.window != 0 && own_key - first >= shape.window) ++first;
            for (std::int64_t head = 0; head < shape.heads; ++head) {
                body({head, row, first, own_key + 1});
            }
        }
    }
}

}  // namespace

Attention attention(const Matrix& q, const Matrix& k, const Matrix& v, const AttentionShape& shape,
                    const Sequences& sequences) {
    const std::int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    Attention result{Matrix(q.rows, q.cols), Matrix(shape.heads, q.rows)};
    for_each_query(shape, sequences, [&](const Query& query) {
        const Weights w = attention_weights(q, k, shape, query);
        result.lse(query.head, query.row) = w.lse;
        for (std::int64_t u = query.first; u < query.end; ++u) {
            for (std::int64_t i = 0; i < d; ++i) {
                result.out(query.row, query.head * d + i) +=
                    w.values[static_cast<std::size_t>(u - query.first)] *
                    v(u, query.head / group * d + i);
            }
        }
    });
    return result;
}

AttentionGradients attention_backward(const Matrix& dout, const Matrix& q, const Matrix& k,
                                      const Matrix& v, const AttentionShape& shape,
                                      const Sequences& sequences) {
    const std::int64_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    AttentionGradients g{Matrix(q.rows, q.cols), Matrix(k.rows, k.cols), Matrix(v.rows, v.cols)};
    for_each_query(shape, sequences, [&](const Query& query) {
        const Weights w = attention_weights(q, k, shape, query);
        const std::int64_t t = query.row, own = query.head * d, shared = query.head / group * d;
        std::vector<double> dweights;
        double mean = 0;
        for (std::int64_t u = query.first; u < query.end; ++u) {
            double sum = 0;
            for (std::int64_t i = 0; i < d; ++i) sum += dout(t, own + i) * v(u, shared + i);
            mean += sum * w.values[dweights.size()];
            dweights.push_back(sum);
        }
        for (std::int64_t u = query.first; u < query.end; ++u) {
            const auto place = static_cast<std::size_t>(u - query.first);
            const double weight = w.values[place];
            const double dscore =
                weight * (dweights[place] - mean) / std::sqrt(static_cast<double>(d));
            for (std::int64_t i = 0; i < d; ++i) {
                g.dv(u, shared + i) += weight * dout(t, own + i);
                g.dk(u, shared + i) += dscore * q(t, own + i);
                g.dq(t, own + i) += dscore * k(u, shared + i);
            }
        }
    });
    return g;
}

Matrix swiglu(const Matrix& gate, const Matrix& up) {
    Matrix y = up;
    for (std::size_t i = 0; i < y.values.size(); ++i) {
        y.values[i] *= gate.values[i] / (1 + std::exp(-gate.values[i]));
    }
    return y;
}

SwigluGradients swiglu_backward(const Matrix& dy, const Matrix& gate, const Matrix& up) {
    SwigluGradients g{gate, up};
    for (std::size_t i = 0; i < dy.values.size(); ++i) {
        const double x = gate.values[i], s = 1 / (1 + std::exp(-x));
        g.dgate.values[i] = dy.values[i] * up.values[i] * (s + x * s * (1 - s));
        g.dup.values[i] = dy.values[i] * x * s;
    }
    return g;
}

namespace {

/// Rows of softmax(x head^T), and each row's log-sum-exp through `lse`.
Matrix probabilities(const Matrix& logits, std::vector<double>& lse) {
    Matrix p = logits;
    for (std::int64_t i = 0; i < p.rows; ++i) {
        double max = p(i, 0), sum = 0;
        for (std::int64_t j = 0; j < p.cols; ++j) max = std::max(max, p(i, j));
        for (std::int64_t j = 0; j < p.cols; ++j) sum += std::exp(p(i, j) - max);
        lse.push_back(max + std::log(sum));
        for (std::int64_t j = 0; j < p.cols; ++j) p(i, j) = std::exp(p(i, j) - lse.back());
    }
    return p;
}

}  // namespace

Matrix cross_entropy(const Matrix& x, const Matrix& head, std::span<const std::int32_t> targets) {
    const Matrix logits = multiply(x, transpose(head));
    std::vector<double> lse;
    probabilities(logits, lse);
    Matrix loss(x.rows, 1);
    for (std::int64_t i = 0; i < x.rows; ++i) {
        const auto t = static_cast<std::size_t>(i);
        loss(i, 0) = lse[t] - logits(i, targets[t]);
    }
    return loss;
}

HeadGradients cross_entropy_backward(const Matrix& x, const Matrix& head,
                                     std::span<const std::int32_t> targets,
                                     std::span<const float> weight) {
    std::vector<double> lse;
    Matrix dlogits = probabilities(multiply(x, transpose(head)), lse);
    for (std::int64_t i = 0; i < x.rows; ++i) {
        const auto t = static_cast<std::size_t>(i);
        dlogits(i, targets[t]) -= 1;
        for (std::int64_t j = 0; j < dlogits.cols; ++j) dlogits(i, j) *= weight[t];
    }
    return {multiply(dlogits, head), multiply(transpose(dlogits), x)};
}

}  // namespace naive

}  // namespace fedit::test
