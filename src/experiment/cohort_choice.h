// experiment/cohort_choice.h: how many clients share a pass where --cohort is auto.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "fedit/model/decoder.h"

namespace fedit {

/// What the choice looks at. None of it knows how many ranks there are: on some back ends the
/// cohort decides bits, which ranks never do.
struct CohortFacts {
    std::size_t sampled = 1;                     ///< clients of a round
    double rows = 1;                             ///< tokens in a client's pass, on average
    std::string_view device = "";                ///< "cpu", "cuda"
    std::size_t memory = 0;                      ///< bytes that the base leaves of the device's
    std::function<std::size_t(int size)> bytes;  ///< what a cohort takes
};

/// As many clients as fill a pass, but not so many that fewer than eight cohorts remain to share
/// among ranks, or that the cohort takes more than its part of the memory; at least 1.
int choose_cohort(const CohortFacts& facts);

/// The sizes of a pass that no `size` of these clients exceed together, one a member.
std::vector<PassSize> largest_cohort(std::span<const PassSize> clients, int size);

}  // namespace fedit
