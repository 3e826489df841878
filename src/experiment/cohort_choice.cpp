// experiment/cohort_choice.cpp: a cohort's size from the clients, the device and its memory.
#include "experiment/cohort_choice.h"

#include <algorithm>
#include <functional>

namespace fedit {

namespace {

/// Cohorts that a round should have at least: ranks share what cannot be divided further.
constexpr std::size_t fewest_cohorts = 8;

/// From how many rows on a pass gains little by more, and which part of the memory it may take
/// (ranks of a node share a CPU's memory).
struct DeviceLimits {
    double rows;
    std::size_t memory_divisor;
};

DeviceLimits limits_of(std::string_view device) {
    return device == "cuda" ? DeviceLimits{8192, 2} : DeviceLimits{512, 8};
}

}  // namespace

int choose_cohort(const CohortFacts& facts) {
    const DeviceLimits limits = limits_of(facts.device);
    const auto filling = static_cast<std::size_t>(limits.rows / std::max(facts.rows, 1.0));
    auto size = static_cast<int>(
        std::max<std::size_t>(1, std::min(filling, facts.sampled / fewest_cohorts)));
    while (size > 1 && facts.bytes(size) > facts.memory / limits.memory_divisor) --size;
    return size;
}

std::vector<PassSize> largest_cohort(std::span<const PassSize> clients, int size) {
    std::vector<std::int64_t> rows, target_rows;
    for (const PassSize& client : clients) {
        rows.push_back(client.rows);
        target_rows.push_back(client.target_rows);
    }
    std::sort(rows.begin(), rows.end(), std::greater<>());
    std::sort(target_rows.begin(), target_rows.end(), std::greater<>());
    std::vector<PassSize> largest;
    for (std::size_t i = 0; i < std::min(rows.size(), static_cast<std::size_t>(size)); ++i) {
        largest.push_back({rows[i], target_rows[i]});
    }
    return largest;
}

}  // namespace fedit
