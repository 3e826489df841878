// federation/vector_loops.cpp: plain loops, which the compiler turns into vectors for each
// instruction set in turn.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "federation/vector_loops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <bit>
#include <cstdint>

#include "federation/vector_loops.h"

HWY_BEFORE_NAMESPACE();
namespace fedit::vector_loops::HWY_NAMESPACE {

inline double Difference(float client, float global) {
    return static_cast<double>(client) - static_cast<double>(global);
}

bool AllNear(const float* client, const float* global, std::size_t count, double bound) {
    int far = 0;  // without leaving early, which lets several values be compared at once
    for (std::size_t i = 0; i < count; ++i) {
        const double difference = Difference(client[i], global[i]);
        far |= difference < bound && difference > -bound ? 0 : 1;
    }
    return far == 0;
}

void AddSquaredDifferences(const float* client, const float* global, std::size_t count,
                           double* sums) {
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
            const double difference = client[i + lane] - global[i + lane];
            sums[lane] += difference * difference;
        }
    }
    for (; i < count; ++i) {
        const double difference = client[i] - global[i];
        sums[i % lanes] += difference * difference;
    }
}

/// The double nearest to a signed word. Few instruction sets convert vectors of 64-bit integers;
/// bits of doubles are put together from a word's halves instead: 2^84 + 2^63 + high 2^32, exact,
/// and 2^52 + low, exact. One rounding is left, where they are added.
inline double NearestDouble(std::uint64_t word) {
    const auto high = std::bit_cast<double>((word >> 32) ^ 0x4530'0000'8000'0000U);
    const auto low = std::bit_cast<double>((word & 0xffff'ffffU) | 0x4330'0000'0000'0000U);
    return (high - (0x1p84 + 0x1p63 + 0x1p52)) + low;
}

void ServerStep(float* x, const std::uint64_t* words, std::size_t count, std::size_t first,
                double unit, double* sums) {
    double mean[step_values];
    for (std::size_t i = 0; i < count; ++i) mean[i] = NearestDouble(words[i]) * unit;
    for (std::size_t i = 0; i < count; ++i)
        x[i] = static_cast<float>(static_cast<double>(x[i]) + mean[i]);
    std::size_t i = 0;
    for (; i < count && (first + i) % lanes != 0; ++i)
        sums[(first + i) % lanes] += mean[i] * mean[i];
    for (; i + lanes <= count; i += lanes) {
        for (std::size_t lane = 0; lane < lanes; ++lane)
            sums[lane] += mean[i + lane] * mean[i + lane];
    }
    for (; i < count; ++i) sums[(first + i) % lanes] += mean[i] * mean[i];
}

std::uint64_t Checksum(const float* x, std::size_t count, std::size_t first) {
    constexpr std::uint32_t step =
        0x9e3779b2U;  // even; its multiples visit all even numbers evenly
    std::uint32_t odd = 1 + static_cast<std::uint32_t>(first) * step;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
        sum += std::uint64_t{std::bit_cast<std::uint32_t>(x[i])} * odd;
        odd += step;
    }
    return sum;
}

}  // namespace fedit::vector_loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fedit::vector_loops {

HWY_EXPORT(AllNear);
HWY_EXPORT(AddSquaredDifferences);
HWY_EXPORT(ServerStep);
HWY_EXPORT(Checksum);

bool all_near(const float* client, const float* global, std::size_t count, double bound) {
    return HWY_DYNAMIC_DISPATCH(AllNear)(client, global, count, bound);
}

void add_squared_differences(const float* client, const float* global, std::size_t count,
                             double* sums) {
    HWY_DYNAMIC_DISPATCH(AddSquaredDifferences)(client, global, count, sums);
}

void server_step(float* x, const std::uint64_t* words, std::size_t count, std::size_t first,
                 double unit, double* sums) {
    HWY_DYNAMIC_DISPATCH(ServerStep)(x, words, count, first, unit, sums);
}

std::uint64_t checksum(const float* x, std::size_t count, std::size_t first) {
    return HWY_DYNAMIC_DISPATCH(Checksum)(x, count, first);
}

}  // namespace fedit::vector_loops
#endif
