// comm/nccl/nccl_link.cpp: an NCCL communicator that never blocks: it is polled, with a time limit.
#include "comm/nccl_link.h"

#include <cuda_runtime.h>
#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <string_view>
#include <thread>

#include "fedit/core/error.h"

namespace fedit {

namespace {

using Clock = std::chrono::steady_clock;

/// Connecting waits no longer than this, although no limit was asked for: a rank that cannot
/// connect tells the others only once they have given up.
constexpr std::chrono::seconds longest_connect{300};

[[noreturn]] void fail(std::string_view action, const std::string& reason) {
    throw RunError({.what = fmt::format("{} failed: {}", action, reason),
                    .where = "connection of the ranks' GPUs by NCCL",
                    .remedy = "NCCL_DEBUG=WARN in the environment makes NCCL tell more; "
                              "--reduce mpi goes on without it, with the same bits"});
}

void check_cuda(cudaError_t status, std::string_view action) {
    if (status != cudaSuccess) fail(action, cudaGetErrorString(status));
}

/// Own stream, which does not wait for the default one. The destructor cannot report anything.
class Stream {
public:
    Stream() {
        check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                   "cudaStreamCreateWithFlags");
    }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

/// Waits a little longer each time, and gives up after `patience` (0: never).
class Patience {
public:
    explicit Patience(std::chrono::seconds patience) : patience_(patience) {}
    bool is_over() const { return patience_.count() > 0 && Clock::now() - start_ > patience_; }
    void pause() {
        std::this_thread::sleep_for(pause_);
        pause_ = std::min(2 * pause_, std::chrono::microseconds(1000));
    }

private:
    std::chrono::seconds patience_;
    Clock::time_point start_ = Clock::now();
    std::chrono::microseconds pause_{20};
};

}  // namespace

struct NcclLink::Impl {
    Impl(std::span<const std::byte> id, int rank, int size, std::chrono::seconds limit)
        : patience(limit) {
        try {
            connect(id, rank, size);
        } catch (...) {
            give_up();
            throw;
        }
    }
    ~Impl() {
        if (std::uncaught_exceptions() > 0 || !finalized()) give_up();
        if (comm != nullptr) ncclCommDestroy(comm);
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void connect(std::span<const std::byte> id, int rank, int size) {
        ncclUniqueId unique{};
        if (id.size() != sizeof unique) fail("the exchange of NCCL's id", "its length is wrong");
        std::memcpy(&unique, id.data(), sizeof unique);
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        started(ncclCommInitRankConfig(&comm, size, unique, rank, &config),
                "ncclCommInitRankConfig", patience.count() > 0 ? patience : longest_connect);
    }

    /// Waits until a call that was begun is under way: only then may the next one, or the stream,
    /// be used.
    void started(ncclResult_t result, std::string_view action, std::chrono::seconds limit) {
        for (Patience wait(limit); result == ncclInProgress; wait.pause()) {
            const ncclResult_t asked = ncclCommGetAsyncError(comm, &result);
            if (asked != ncclSuccess) result = asked;
            if (result == ncclInProgress && wait.is_over())
                fail(action,
                     fmt::format("the other ranks did not answer within {} s", limit.count()));
        }
        if (result != ncclSuccess) fail(action, reason(result));
    }

    /// Until the stream is done. cudaStreamSynchronize would wait for ever when a rank has died.
    void finish(std::string_view action) {
        for (Patience wait(patience);; wait.pause()) {
            const cudaError_t status = cudaStreamQuery(stream.get());
            if (status == cudaSuccess) return;
            if (status != cudaErrorNotReady) check_cuda(status, action);
            ncclResult_t state = ncclSuccess;
            const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
            if (asked != ncclSuccess) fail(action, reason(asked));
            if (state != ncclSuccess && state != ncclInProgress) fail(action, reason(state));
            if (wait.is_over())
                fail(action,
                     fmt::format("the other ranks did not answer within {} s", patience.count()));
        }
    }

    /// Not collective. What fails here has failed before and was told.
    void give_up() noexcept {
        if (comm != nullptr) ncclCommAbort(comm);
        comm = nullptr;
    }

    /// The collective end of a communicator; false if the others do not come to it.
    bool finalized() noexcept {
        if (comm == nullptr) return true;
        ncclResult_t state = ncclCommFinalize(comm);
        const std::chrono::seconds limit = patience.count() > 0 ? patience : longest_connect;
        for (Patience wait(limit); state == ncclInProgress && !wait.is_over(); wait.pause()) {
            if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) return false;
        }
        return state == ncclSuccess;
    }

    std::string reason(ncclResult_t result) const {
        return fmt::format("{}: {}", ncclGetErrorString(result), ncclGetLastError(comm));
    }

    Stream stream;
    std::chrono::seconds patience;
    ncclComm_t comm = nullptr;
};

NcclVersions NcclLink::versions() {
    NcclVersions versions{.built = NCCL_VERSION_CODE, .loaded = 0};
    if (ncclGetVersion(&versions.loaded) != ncclSuccess) versions.loaded = 0;
    return versions;
}

Bytes NcclLink::make_id() {
    ncclUniqueId id{};
    const ncclResult_t result = ncclGetUniqueId(&id);
    if (result != ncclSuccess) fail("ncclGetUniqueId", ncclGetErrorString(result));
    const auto bytes = std::as_bytes(std::span(&id, 1));
    return {bytes.begin(), bytes.end()};
}

NcclLink::NcclLink(std::span<const std::byte> id, int rank, int size, std::chrono::seconds patience)
    : impl_(std::make_unique<Impl>(id, rank, size, patience)) {}

NcclLink::~NcclLink() = default;

void NcclLink::sum(std::span<std::uint64_t> words) {
    if (words.empty()) return;
    if (impl_->comm == nullptr) fail("a sum over GPUs", "the connection was given up before");
    try {
        check_cuda(cudaDeviceSynchronize(), "work before the sum");
        impl_->started(ncclAllReduce(words.data(), words.data(), words.size(), ncclUint64, ncclSum,
                                     impl_->comm, impl_->stream.get()),
                       "ncclAllReduce", impl_->patience);
        impl_->finish("ncclAllReduce");
    } catch (...) {
        impl_->give_up();
        throw;
    }
}

}  // namespace fedit
