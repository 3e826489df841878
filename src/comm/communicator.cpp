// comm/communicator.cpp: the collectives, each entered through a barrier that sleeps.
#include "fedit/comm/communicator.h"

#include <algorithm>
#include <array>
#include <thread>

#include "comm/chunk.h"
#include "comm/communicator_impl.h"
#include "comm/mpi_check.h"

namespace fedit {
namespace {

constexpr int gather_tag = 3;  // the watchdog has 1 and 2

/// Of a chunk that is summed each rank adds up one part, which should stay in its cache.
constexpr std::size_t summed_part_bytes = std::size_t{1} << 20;

int rank_of(MPI_Comm comm) {
    int rank = 0;
    check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
    return rank;
}

int size_of(MPI_Comm comm) {
    int size = 0;
    check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
    return size;
}

void broadcast_all(std::span<std::byte> bytes, int root, MPI_Comm comm) {
    for_each_chunk(bytes, [&](std::span<std::byte> chunk) {
        check_mpi(MPI_Bcast(chunk.data(), static_cast<int>(chunk.size()), MPI_BYTE, root, comm),
                  "MPI_Bcast");
    });
}

std::uint64_t broadcast_size(std::uint64_t size, int root, MPI_Comm comm) {
    check_mpi(MPI_Bcast(&size, 1, MPI_UINT64_T, root, comm), "MPI_Bcast");
    return size;
}

std::int64_t reduce_one(std::int64_t value, MPI_Op op, MPI_Comm comm) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, op, comm), "MPI_Allreduce");
    return value;
}

std::vector<std::uint64_t> all_sizes(std::uint64_t mine, int ranks, MPI_Comm comm) {
    std::vector<std::uint64_t> sizes(static_cast<std::size_t>(ranks));
    check_mpi(MPI_Allgather(&mine, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, comm),
              "MPI_Allgather");
    return sizes;
}

}  // namespace

Communicator::Impl::Impl(MPI_Comm owned, std::shared_ptr<RunState> run_state)
    : comm(owned),
      rank(rank_of(owned)),
      size(size_of(owned)),
      state(std::move(run_state)),
      watchdog(owned, rank, size) {
    check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

Communicator::Impl::~Impl() {
    if (may_release()) MPI_Comm_free(&comm);
}

void Communicator::Impl::enter() {
    state->failure = Failure::own;  // the run goes on, so an earlier agreed error was dealt with
    if (size == 1) return;
    MPI_Request barrier = MPI_REQUEST_NULL;
    check_mpi(MPI_Ibarrier(comm, &barrier), "MPI_Ibarrier");
    watchdog.begin(*state);
    constexpr std::chrono::microseconds longest{2000};
    for (std::chrono::microseconds pause{50};; pause = std::min(2 * pause, longest)) {
        int complete = 0;
        check_mpi(MPI_Test(&barrier, &complete, MPI_STATUS_IGNORE), "MPI_Test");
        if (complete != 0) return;
        watchdog.look(*state);
        std::this_thread::sleep_for(pause);
    }
}

Communicator::Communicator(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Communicator::~Communicator() = default;
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;

Communicator Communicator::world(const MpiSession& session) {
    MPI_Comm copy = MPI_COMM_NULL;
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
    Communicator world(std::make_shared<Impl>(copy, session.state_));
    session.state_->world_size = world.size();
    return world;
}

Communicator Communicator::node() const {
    impl_->enter();
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(
        MPI_Comm_split_type(impl_->comm, MPI_COMM_TYPE_SHARED, impl_->rank, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
    return Communicator(std::make_shared<Impl>(node, impl_->state));
}

Communicator Communicator::alike(std::string_view key) const {
    const std::vector<Bytes> keys = all_gather(std::as_bytes(std::span(key)));
    const auto mine = keys.begin() + impl_->rank;
    const auto color = static_cast<int>(std::find(keys.begin(), mine, *mine) - keys.begin());
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(impl_->comm, color, impl_->rank, &part), "MPI_Comm_split");
    return Communicator(std::make_shared<Impl>(part, impl_->state));
}

int Communicator::rank() const {
    return impl_->rank;
}
int Communicator::size() const {
    return impl_->size;
}

void Communicator::barrier() const {
    impl_->enter();
}

void Communicator::broadcast(std::span<std::byte> bytes, int root) const {
    impl_->enter();
    broadcast_all(bytes, root, impl_->comm);
}

void Communicator::broadcast(Bytes& bytes, int root) const {
    impl_->enter();
    bytes.resize(broadcast_size(bytes.size(), root, impl_->comm));
    broadcast_all(bytes, root, impl_->comm);
}

void Communicator::broadcast(std::string& text, int root) const {
    impl_->enter();
    text.resize(broadcast_size(text.size(), root, impl_->comm));
    broadcast_all(std::as_writable_bytes(std::span(text)), root, impl_->comm);
}

void Communicator::sum(std::span<std::uint64_t> words, const UseWords& use) const {
    impl_->enter();
    const std::size_t most =
        std::min(chunk_bytes, summed_part_bytes * static_cast<std::size_t>(impl_->size));
    const auto add_up = [&](std::span<std::uint64_t> chunk) {
        check_mpi(MPI_Allreduce(MPI_IN_PLACE, chunk.data(), static_cast<int>(chunk.size()),
                                MPI_UINT64_T, MPI_SUM, impl_->comm),
                  "MPI_Allreduce");
        if (use) use(chunk);
    };
    for_each_chunk(words, add_up, most);
}

std::int64_t Communicator::sum(std::int64_t value) const {
    impl_->enter();
    return reduce_one(value, MPI_SUM, impl_->comm);
}

std::int64_t Communicator::max(std::int64_t value) const {
    impl_->enter();
    return reduce_one(value, MPI_MAX, impl_->comm);
}

bool Communicator::equal(std::uint64_t value) const {
    impl_->enter();
    std::array<std::uint64_t, 2> extremes{value, ~value};  // the maximum of ~v is ~ of the minimum
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, extremes.data(), 2, MPI_UINT64_T, MPI_MAX, impl_->comm),
              "MPI_Allreduce");
    return extremes[0] == ~extremes[1];
}

std::vector<Bytes> Communicator::gather(std::span<const std::byte> mine, int root) const {
    impl_->enter();
    const auto sizes = all_sizes(mine.size(), impl_->size, impl_->comm);
    if (impl_->rank != root) {
        for_each_chunk(mine, [&](std::span<const std::byte> chunk) {
            check_mpi(MPI_Send(chunk.data(), static_cast<int>(chunk.size()), MPI_BYTE, root,
                               gather_tag, impl_->comm),
                      "MPI_Send");
        });
        return {};
    }
    std::vector<Bytes> all(sizes.size());
    for (int from = 0; from < impl_->size; ++from) {
        Bytes& bytes = all.at(from);
        if (from == root) {
            bytes.assign(mine.begin(), mine.end());
            continue;
        }
        bytes.resize(sizes.at(from));
        for_each_chunk(std::span(bytes), [&](std::span<std::byte> chunk) {
            check_mpi(MPI_Recv(chunk.data(), static_cast<int>(chunk.size()), MPI_BYTE, from,
                               gather_tag, impl_->comm, MPI_STATUS_IGNORE),
                      "MPI_Recv");
        });
    }
    return all;
}

std::vector<Bytes> Communicator::all_gather(std::span<const std::byte> mine) const {
    impl_->enter();
    const auto sizes = all_sizes(mine.size(), impl_->size, impl_->comm);
    std::vector<Bytes> all(sizes.size());
    for (int from = 0; from < impl_->size; ++from) {
        Bytes& bytes = all.at(from);
        if (from == impl_->rank) bytes.assign(mine.begin(), mine.end());
        bytes.resize(sizes.at(from));
        broadcast_all(bytes, from, impl_->comm);
    }
    return all;
}

void Communicator::set_hang_timeout(std::chrono::seconds limit) {
    impl_->state->hang_limit = limit;
}
std::chrono::seconds Communicator::hang_timeout() const {
    return impl_->state->hang_limit;
}
void Communicator::phase(std::string_view name) const {
    impl_->state->phase = name;
}

}  // namespace fedit
