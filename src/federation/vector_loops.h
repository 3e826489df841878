// federation/vector_loops.h: the loops over a whole adapter that a round ends with, compiled for
// each instruction set; all of them give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fedit::vector_loops {

/// Sums of squares take turns among so many, so that a processor need not wait for one addition
/// before the next; value i of a vector belongs to sum i % lanes.
inline constexpr std::size_t lanes = 8;
/// Values that server_step() takes at most: they and their means stay in the first cache.
inline constexpr std::size_t step_values = 1024;

/// False if |client[i] - global[i]| >= `bound` for an i, or NaN.
bool all_near(const float* client, const float* global, std::size_t count, double bound);

/// sums[i % lanes] += (client[i] - global[i])^2, in double; the difference is rounded to fp32.
void add_squared_differences(const float* client, const float* global, std::size_t count,
                             double* sums);

/// x[i] <- fp32(x[i] + mean[i]) with mean[i] = signed words[i] times `unit`, in double; mean[i]^2
/// is added to sums[(first + i) % lanes]. Up to step_values values, which are a vector's from
/// `first` on.
void server_step(float* x, const std::uint64_t* words, std::size_t count, std::size_t first,
                 double unit, double* sums);

/// The share of checksum() (aggregate.h) of the values from place `first` on.
std::uint64_t checksum(const float* x, std::size_t count, std::size_t first);

}  // namespace fedit::vector_loops
