// federation/aggregate.h: the order-free sum of client updates, and the screen before it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fedit/tensor/backend.h"

namespace fedit {

/// Updates with a coordinate this far from the global vector are rejected.
inline constexpr double update_bound = 512;  // 2^9
/// The sum of a plan's weights may not exceed this, so that a sum stays below 2^63.
inline constexpr double weight_bound = 4;

/// Why an update may not be summed (wrong length, NaN, Inf, |x_k - x| >= 2^9), or nothing. The text
/// names the first bad place and its value.
std::optional<std::string> screen(std::span<const float> client, std::span<const float> global);

/// ||x_k - x|| in double, of differences in fp32. Throws ShapeError if the lengths differ.
double update_norm(std::span<const float> client, std::span<const float> global);

/// q = llrint((x_k - x) w_k 2^52) modulo 2^64, summed as 64-bit integers: no order, of clients,
/// threads or ranks, can change a bit. Difference and product are rounded once each, in double. The
/// words lie in a back end's memory, and the back end adds to them.
class OrderFreeSum {
public:
    /// `size` words, all 0. `backend` must outlive the sum.
    OrderFreeSum(Backend& backend, std::size_t size);
    /// Forgets all updates; the memory stays.
    void clear();

    /// Adds one update, unless screen() has a reason against it: then returns the reason, and the
    /// sum is as before. Both vectors are the host's. Throws ShapeError if `global` has another
    /// length than this sum, RunError if the weight is not in [0, 4] or the weights added here
    /// exceed 4.
    [[nodiscard]] std::optional<std::string> add(std::span<const float> client,
                                                 std::span<const float> global, double weight,
                                                 std::int64_t records);

    /// The same of an update that lies in back-end memory, with no way through the host's. Returns
    /// update_norm(), to the bit; or nothing where that alone does not show that screen() finds
    /// nothing: then the sum is as before, and add() decides. Both vectors are as long as the sum.
    [[nodiscard]] std::optional<double> add_near(const float* client, const float* global,
                                                 double weight, std::int64_t records);

    /// The words in back-end memory, for a sum over ranks; adding words is modulo 2^64.
    std::span<std::uint64_t> words();
    std::vector<std::uint64_t> host_words() const;     ///< a copy of them
    std::int64_t records() const { return records_; }  ///< of the updates that were added here

    /// Bytes of back-end memory that a sum of `size` words takes.
    static std::size_t device_bytes(std::size_t size);

private:
    void require_weight(double weight) const;
    void accumulate(std::span<const float> client, std::span<const float> global, std::size_t first,
                    double weight);

    Backend& backend_;
    bool host_memory_;
    std::size_t size_;
    DeviceBuffer words_;
    DeviceBuffer client_, global_;  // on a device: a part of a vector at a time
    std::int64_t records_ = 0;
    double weight_ = 0;
};

/// FedAvg's server step (arXiv 1602.05629), part by part as the ranks' sum comes in: x <- fp32(x +
/// mean update), in double. The mean is the signed sum of words 2^-52, times planned / surviving
/// records if they differ. How the words are cut into parts changes no bit.
class ServerStep {
public:
    /// `x` must outlive the step. Throws RunError if nothing survived, or more than was planned.
    ServerStep(std::span<float> x, std::int64_t surviving_records, std::int64_t planned_records);

    /// Moves the next values of `x` by the next summed words. Throws ShapeError behind its end.
    void take(std::span<const std::uint64_t> words);

    double update_norm() const;                           ///< ||mean update||, of what was taken
    std::uint64_t checksum() const { return checksum_; }  ///< checksum(x), of what was taken

private:
    std::span<float> x_;
    double unit_;
    std::size_t taken_ = 0;
    std::array<double, 8> squares_{};
    std::uint64_t checksum_ = 0;
};

/// By which ranks compare their copies of a vector: the sum of the values' bits, each times an odd
/// 32-bit number of its place, modulo 2^64. A difference in one value always shows; accidental
/// ones in several hide each other with a chance of some 2^-32.
std::uint64_t checksum(std::span<const float> x);

}  // namespace fedit
