// federation/aggregation_error.cpp: Frobenius norms of sums of products, by Gram matrices of their
// factors.
#include "fedit/federation/aggregation_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "fedit/core/error.h"

namespace fedit {

namespace {

using Values = std::vector<double>;

/// B A = sum_j b_j a_j, where column j of B and row j of A are pairs: (out x n) and (n x in). Both
/// are kept by their long side, so that a row of either holds one number of each pair.
class SumOfProducts {
public:
    SumOfProducts(std::int64_t out, std::int64_t in, std::int64_t pairs)
        : pairs_(pairs),
          left_(static_cast<std::size_t>(out * pairs)),
          right_(static_cast<std::size_t>(in * pairs)) {}

    /// Adds weight B A; b is (out x r), a is (r x in).
    void add(double weight, const Values& b, const Values& a, std::int64_t r) {
        const auto pairs = static_cast<std::size_t>(pairs_), rank = static_cast<std::size_t>(r);
        const std::size_t out = left_.size() / pairs, in = right_.size() / pairs;
        for (std::size_t o = 0; o < out; ++o)
            for (std::size_t j = 0; j < rank; ++j)
                left_[o * pairs + used_ + j] = weight * b[o * rank + j];
        for (std::size_t j = 0; j < rank; ++j)
            for (std::size_t i = 0; i < in; ++i) right_[i * pairs + used_ + j] = a[j * in + i];
        used_ += rank;
    }

    /// ||B A||^2 = sum over i, j of (B^T B)_ij (A A^T)_ij.
    double squared_norm() const {
        const auto pairs = static_cast<std::size_t>(pairs_);
        const Values left = gram(left_), right = gram(right_);
        double diagonal = 0, below = 0;
        for (std::size_t i = 0; i < pairs; ++i) {
            diagonal += left[i * pairs + i] * right[i * pairs + i];
            for (std::size_t j = 0; j < i; ++j) below += left[i * pairs + j] * right[i * pairs + j];
        }
        return std::max(diagonal + 2 * below, 0.0);
    }

private:
    /// The inner products of the columns of `rows`; what stands above the diagonal is left zero.
    Values gram(const Values& rows) const {
        const auto pairs = static_cast<std::size_t>(pairs_);
        Values sums(pairs * pairs);
        for (std::size_t row = 0; row < rows.size(); row += pairs)
            for (std::size_t i = 0; i < pairs; ++i)
                for (std::size_t j = 0; j <= i; ++j)
                    sums[i * pairs + j] += rows[row + i] * rows[row + j];
        return sums;
    }

    std::int64_t pairs_;
    std::size_t used_ = 0;
    Values left_, right_;
};

void require(bool holds, const Module& module, const std::string& what) {
    if (holds) return;
    throw ShapeError({.what = what,
                      .where = "aggregation error of " + module.name,
                      .remedy = "it is defined for LoRA modules, an A and a B, of one layout"});
}

Values part(std::span<const float> values, const Span& span, std::int64_t begin) {
    const auto first = values.begin() + (span.offset - begin);
    return {first, first + span.size()};
}

}  // namespace

AggregationError aggregation_error(const Module& module, std::span<const float> global,
                                   std::span<const WeightedModule> clients) {
    require(module.spans.size() == 2 && module.spans[0].part == Part::lora_a &&
                module.spans[1].part == Part::lora_b,
            module, "the module is not a pair of LoRA factors");
    const Span& a = module.spans[0];
    const Span& b = module.spans[1];
    const auto size = static_cast<std::size_t>(a.size() + b.size());
    const std::int64_t r = a.rows;
    double weight_sum = 0;
    require(global.size() == size, module, fmt::format("{} global values", global.size()));
    for (const WeightedModule& client : clients) {
        require(client.values.size() == size, module,
                fmt::format("a client has {} values, expected {}", client.values.size(), size));
        weight_sum += client.weight;
    }

    // With dB_k = B_k - B and dA_k = A_k - A, and their means mB and mA, which are no more than the
    // rounding of B and A: sum p_k B_k A_k - B A = sum p_k dB_k dA_k + mB A + B mA.
    const auto pairs = static_cast<std::int64_t>(clients.size()) * r;
    SumOfProducts error(b.rows, a.cols, pairs + 2 * r), product(b.rows, a.cols, pairs);
    const Values global_a = part(global, a, a.offset), global_b = part(global, b, a.offset);
    Values mean_a(global_a.size()), mean_b(global_b.size());
    for (const WeightedModule& client : clients) {
        const double p = client.weight / weight_sum;
        Values client_a = part(client.values, a, a.offset);
        Values client_b = part(client.values, b, a.offset);
        product.add(p, client_b, client_a, r);
        for (std::size_t i = 0; i < client_a.size(); ++i)
            mean_a[i] += p * (client_a[i] -= global_a[i]);
        for (std::size_t i = 0; i < client_b.size(); ++i)
            mean_b[i] += p * (client_b[i] -= global_b[i]);
        error.add(p, client_b, client_a, r);
    }
    error.add(1, mean_b, global_a, r);
    error.add(1, global_b, mean_a, r);
    return {.error = error.squared_norm(), .mean_product = product.squared_norm()};
}

}  // namespace fedit
