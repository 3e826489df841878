// experiment/memory_plan.h: what a run needs on each device, known before it starts.
#pragma once

#include <cstddef>
#include <string>

namespace fedit {

/// Bytes.
struct MemoryPlan {
    std::size_t base = 0;  ///< frozen weights, once a node
    std::size_t training =
        0;  ///< a rank: activations of the largest micro-batch, adapter, optimizer
    std::size_t records = 0;  ///< a rank: token ids and labels
    std::size_t round = 0;    ///< a rank: global adapter, sum, upload
    int ranks_on_node = 1;
    std::size_t device = 0;  ///< memory there is on a node

    std::size_t needed() const;  ///< on one node
    std::string text() const;    ///< one line for the log
    /// Throws InputError, saying what to lower, if the node's memory is too small.
    void require_fits() const;
};

}  // namespace fedit
