// comm/shared_memory.h: memory that exists once on a node, however many ranks use it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace fedit {

class Communicator;

/// Memory that the ranks of one node share; made by Communicator::share. The leader fills it, then
/// all call seal(). The destructor is collective, but lets go without the call while an exception
/// unwinds: one rank alone would hang in it.
class SharedMemory {
public:
    ~SharedMemory();
    SharedMemory(SharedMemory&&) noexcept;
    SharedMemory& operator=(SharedMemory&&) noexcept;

    std::span<std::byte> bytes() const;  ///< 64-byte aligned; what it holds at first is undefined
    bool leader() const;                 ///< rank 0 of the communicator that made it
    /// All ranks of the node call; afterwards what the leader wrote is visible to all.
    void seal();

private:
    friend class Communicator;
    struct Impl;
    explicit SharedMemory(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
