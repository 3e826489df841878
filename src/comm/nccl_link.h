// comm/nccl_link.h: GPUs that are connected by NCCL. comm/nccl implements it; a build without NCCL
// has comm/nccl_stub instead.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "fedit/comm/message.h"

namespace fedit {

/// As NCCL counts: 22809 is 2.28.9; 0: there is none.
struct NcclVersions {
    int built = 0;   ///< of the header that this program was compiled with
    int loaded = 0;  ///< of the library that was found when it started
};

/// One rank's end of the connection. Nothing blocks for longer than `patience` (0: without limit):
/// every wait is a poll that sees errors of the other ranks. After a failure the connection is
/// given up (ncclCommAbort, which is not collective) and RunError is thrown.
class NcclLink {
public:
    static NcclVersions versions();
    /// On one rank; the others are given its bytes. Throws RunError.
    static Bytes make_id();

    /// Collective over the ranks that were given `id`, each with a GPU of its own: the calling
    /// thread's current device, which the CUDA back end has chosen.
    NcclLink(std::span<const std::byte> id, int rank, int size, std::chrono::seconds patience);
    /// Collective, but gives the connection up without the call while an exception unwinds.
    ~NcclLink();
    NcclLink(const NcclLink&) = delete;
    NcclLink& operator=(const NcclLink&) = delete;

    /// Collective. Sum modulo 2^64 in place, of device memory, after all that the device was asked
    /// to do before; done when it returns.
    void sum(std::span<std::uint64_t> words);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
