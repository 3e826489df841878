// experiment/memory_plan.h: what a run needs on each node and device, known before it starts.
#pragma once

#include <cstddef>
#include <string>

namespace fedit {

/// Bytes.
struct MemoryPlan {
    std::size_t base = 0;  ///< frozen weights, once a node, or once a device
    /// A rank: activations of the largest pass, and of each client in it adapter and optimizer; a
    /// CPU's overhead.
    std::size_t training = 0;
    int cohort = 1;            ///< clients in a pass
    std::size_t overhead = 0;  ///< a rank: what its device's libraries take beside
    std::size_t records = 0;   ///< a rank: token ids and labels, as they arrive
    std::size_t round = 0;     ///< a rank: global adapter, uploads
    std::size_t sum = 0;       ///< a rank: the order-free sum, where training is
    int ranks_on_node = 1;
    std::size_t node = 0;  ///< memory there is on a node
    // Where base, training and sum lie in memory of a device's own:
    std::string device_name{};  ///< empty: they lie in the node's memory
    int ranks_on_device = 1;    ///< at most
    std::size_t device = 0;     ///< memory there is on a device

    bool on_device() const { return !device_name.empty(); }
    std::size_t needed_on_device() const;
    std::size_t needed_on_node() const;
    std::string device_text() const;  ///< one line for the log; empty without devices
    std::string node_text() const;    ///< the same of the node
    /// Throws InputError, saying what to lower, for each memory that is too small.
    void require_fits() const;

private:
    std::string training_text() const;
};

}  // namespace fedit
