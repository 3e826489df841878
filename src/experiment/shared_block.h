// experiment/shared_block.h: back-end memory that exists once for all ranks that can reach it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "fedit/comm/communicator.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// One block that the ranks of a node share where back-end memory is the host's, and otherwise the
/// ranks of a node that compute on the same device. The leader fills it, then all call seal(). The
/// destructor is collective, but lets go without the call while an exception unwinds.
class SharedBlock {
public:
    /// Collective over `node`. Throws on all ranks if one cannot allocate.
    SharedBlock(const Communicator& node, Backend& backend, std::size_t bytes);
    ~SharedBlock();
    SharedBlock(const SharedBlock&) = delete;
    SharedBlock& operator=(const SharedBlock&) = delete;

    bool leader() const { return ranks_.rank() == 0; }
    /// Back-end memory; on other ranks than the leader only after seal().
    std::span<std::byte> bytes() const;
    /// Collective; afterwards what the leader wrote is visible to all.
    void seal();

private:
    Communicator ranks_;  ///< that share
    Backend& backend_;
    std::size_t size_;
    std::unique_ptr<SharedMemory> host_;
    DeviceBuffer device_;
};

}  // namespace fedit
