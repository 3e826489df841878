// tests/federation/random_updates.h: client vectors to sum, the same on every
// rank.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "fedit/core/rng.h"
#include "fedit/tensor/backend.h"

namespace fedit::test {

/// Where sums lie whose place does not matter.
inline Backend& any_backend() {
    static const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    return *backend;
}

/// Normal values whose magnitudes span 2^-30 .. 2^6, so that a floating-point sum of several
/// clients would depend on their order. `client` 0 may serve as the global vector.
inline std::vector<float> random_update(std::uint32_t client, std::size_t size) {
    RandomStream stream({.seed = 7, .purpose = Purpose::synthetic_data, .client = client});
    std::vector<float> values(size);
    for (float& value : values) {
        const int exponent = static_cast<int>(stream.below(37)) - 30;
        value = static_cast<float>(std::ldexp(stream.normal(), exponent));
    }
    return values;
}

}  // namespace fedit::test
