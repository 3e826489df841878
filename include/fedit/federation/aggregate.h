// federation/aggregate.h: the order-free sum of client updates, and the screen before it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fedit {

/// Updates with a coordinate this far from the global vector are rejected.
inline constexpr double update_bound = 512;  // 2^9
/// The sum of a plan's weights may not exceed this, so that a sum stays below 2^63.
inline constexpr double weight_bound = 4;

/// Why an update may not be summed (wrong length, NaN, Inf, |x_k - x| >= 2^9), or nothing. The text
/// names the first bad place and its value.
std::optional<std::string> screen(std::span<const float> client, std::span<const float> global);

/// q = llrint((x_k - x) w_k 2^52) modulo 2^64, summed as 64-bit integers: no order, of clients,
/// threads or ranks, can change a bit. Difference and product are rounded once each, in double.
class OrderFreeSum {
public:
    explicit OrderFreeSum(std::size_t size) : words_(size, 0) {}

    /// Adds one screened update. Throws ShapeError if a length differs from this sum's, RunError if
    /// the weight is not in [0, 4] or the weights added here exceed 4.
    void add(std::span<const float> client, std::span<const float> global, double weight,
             std::int64_t records);

    /// For a sum over ranks, a mask, or a part taken from a file; adding words is modulo 2^64.
    std::span<std::uint64_t> words() { return words_; }
    std::span<const std::uint64_t> words() const { return words_; }
    std::int64_t records() const { return records_; }               ///< of the summed updates
    void set_records(std::int64_t records) { records_ = records; }  ///< after a sum over ranks

    /// The mean update in double: signed sum 2^-52, times planned / surviving records if they
    /// differ. Throws RunError if nothing survived, or more than was planned.
    std::vector<double> mean(std::int64_t planned_records) const;

private:
    std::vector<std::uint64_t> words_;
    std::int64_t records_ = 0;
    double weight_ = 0;
};

/// FedAvg's server step (arXiv 1602.05629): x <- fp32(x + delta), in double. Returns ||delta||.
/// Throws ShapeError if the lengths differ.
double apply_update(std::span<float> x, std::span<const double> delta);

}  // namespace fedit
