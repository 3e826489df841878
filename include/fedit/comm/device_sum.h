// comm/device_sum.h: the sum of all ranks' words, where these lie in back ends' memory.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "fedit/comm/communicator.h"
#include "fedit/tensor/backend.h"

namespace fedit {

/// What a user may ask for. The bits are the same both ways.
enum class SumChoice : std::uint8_t {
    automatic,  ///< NCCL where it can: every rank has a GPU of its own
    mpi         ///< always MPI, through host memory
};

/// Sums 64-bit words over the ranks of a communicator, from GPU to GPU by NCCL, else by MPI through
/// host memory. Integer addition has no order, so the way changes no bit.
class DeviceSum {
public:
    /// Collective: the ranks tell each other their devices and choose one way. `comm` and `backend`
    /// must outlive the sum. Throws RunError on all ranks if NCCL was chosen and cannot connect.
    DeviceSum(const Communicator& comm, Backend& backend, SumChoice choice = SumChoice::automatic);
    /// Collective where NCCL was chosen, but lets go without the call while an exception unwinds.
    ~DeviceSum();
    DeviceSum(DeviceSum&&) noexcept;
    DeviceSum& operator=(DeviceSum&&) noexcept;

    /// Collective. Sum modulo 2^64 over all ranks, in place, of words in `backend`'s memory; sizes
    /// are equal on all ranks. `use` is called with each part of the sum in host memory, in order,
    /// while it is in the processor's cache; it must not throw. Waits no longer than the
    /// communicator's hang timeout for others, then throws RunError.
    void sum(std::span<std::uint64_t> words, const UseWords& use = {}) const;

    /// For people: "NCCL 2.28.9", or "MPI through host memory" and why.
    const std::string& way() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// What NCCL takes of a GPU for its connections: 300 to 700 MB as others report, not measured here;
/// the larger, or 0 in a build without NCCL. For the memory plan.
std::int64_t nccl_device_bytes();

/// "2.28.9" of the NCCL library that this program uses, "not in this build", or what is wrong.
std::string nccl_library();

}  // namespace fedit
