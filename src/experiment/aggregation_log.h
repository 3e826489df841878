// experiment/aggregation_log.h: gathers clients' factors over the ranks to tell what averaging them
// lost.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/tensor/layout.h"

namespace fedit {

/// A client whose update is in the sum.
struct SummedClient {
    std::int64_t client = 0;
    double weight = 0;
    std::vector<float> x;  ///< its adapter
};

/// Over all modules of an adapter.
struct AggregationLoss {
    double error = 0;     ///< ||sum p_k B_k A_k - B A||_F, without scales
    double relative = 0;  ///< the same with scales, divided by ||sum p_k scale B_k A_k||_F
};

/// The error of the global adapter `x` against the clients of all ranks; `mine` are this rank's. No
/// rank holds more than one module of all clients. The same bits on any number of ranks.
/// Collective.
AggregationLoss aggregation_loss(const Communicator& comm, const Layout& layout,
                                 std::span<const float> x, std::span<const SummedClient> mine);

}  // namespace fedit
