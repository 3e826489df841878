// comm/device_sum.cpp: what the ranks tell each other before they sum, and the way through host
// memory.
#include "fedit/comm/device_sum.h"

#include <algorithm>
#include <vector>

#include "comm/chunk.h"
#include "comm/nccl_link.h"
#include "comm/sum_way.h"

namespace fedit {

namespace {

/// A number that the ranks of one node have in common: the lowest rank among them.
std::int64_t node_number(const Communicator& comm) {
    std::int64_t lowest = comm.rank();
    comm.node().broadcast(std::as_writable_bytes(std::span(&lowest, 1)), 0);
    return lowest;
}

std::vector<RankDevice> tell_devices(const Communicator& comm, const Backend& backend) {
    const NcclVersions versions = NcclLink::versions();
    ByteWriter mine;
    mine.put(node_number(comm)).put(backend.info().bus_id);
    mine.put(versions.built).put(versions.loaded);
    std::vector<RankDevice> ranks;
    for (const Bytes& told : comm.all_gather(mine.take())) {
        ByteReader reader(told);
        RankDevice& rank = ranks.emplace_back();
        rank.node = reader.get<std::int64_t>();
        rank.bus_id = reader.get_text();
        rank.nccl_built = reader.get<int>();
        rank.nccl_loaded = reader.get<int>();
    }
    return ranks;
}

}  // namespace

struct DeviceSum::Impl {
    Impl(const Communicator& ranks, Backend& device) : comm(ranks), backend(device) {}

    void connect();
    void sum_by_nccl(std::span<std::uint64_t> words) const;
    /// Whether the words on the device are the sum already, or MPI has to add them.
    bool summed_on_device() const { return link || comm.size() == 1; }
    /// Part by part: to the host, there summed by MPI if they are not yet, and used.
    void pass_through_host(std::span<std::uint64_t> words, const UseWords& use) const;

    const Communicator& comm;
    Backend& backend;
    SumWay way;
    std::unique_ptr<NcclLink> link;  ///< where NCCL was chosen
};

void DeviceSum::Impl::connect() {
    Bytes id;
    comm.together("begin to connect the GPUs", [&] {
        if (comm.rank() == 0) id = NcclLink::make_id();
    });
    comm.broadcast(id, 0);
    comm.together("connect the GPUs", [&] {
        link = std::make_unique<NcclLink>(id, comm.rank(), comm.size(), comm.hang_timeout());
    });
}

void DeviceSum::Impl::sum_by_nccl(std::span<std::uint64_t> words) const {
    comm.barrier();  // names who is missing, which NCCL cannot
    link->sum(words);
}

void DeviceSum::Impl::pass_through_host(std::span<std::uint64_t> words, const UseWords& use) const {
    std::vector<std::uint64_t> part;
    for_each_chunk(words, [&](std::span<std::uint64_t> chunk) {
        part.resize(chunk.size());
        backend.download(std::as_writable_bytes(std::span(part)), chunk.data());
        if (summed_on_device()) return use(part);
        comm.sum(std::span(part), use);
        backend.upload(chunk.data(), std::as_bytes(std::span(part)));
    });
}

DeviceSum::DeviceSum(const Communicator& comm, Backend& backend, SumChoice choice)
    : impl_(std::make_unique<Impl>(comm, backend)) {
    impl_->way = choose_sum_way(choice, tell_devices(comm, backend));
    if (impl_->way.nccl) impl_->connect();
}

DeviceSum::~DeviceSum() = default;
DeviceSum::DeviceSum(DeviceSum&&) noexcept = default;
DeviceSum& DeviceSum::operator=(DeviceSum&&) noexcept = default;

void DeviceSum::sum(std::span<std::uint64_t> words, const UseWords& use) const {
    const Impl& impl = *impl_;
    if (impl.backend.info().host_memory) return impl.comm.sum(words, use);
    if (impl.link) impl.sum_by_nccl(words);
    if (use || !impl.summed_on_device()) impl.pass_through_host(words, use);
}

const std::string& DeviceSum::way() const {
    return impl_->way.text;
}

std::int64_t nccl_device_bytes() {
    return NcclLink::versions().built == 0 ? 0 : 700'000'000;
}

std::string nccl_library() {
    const NcclVersions versions = NcclLink::versions();
    if (versions.built == 0) return "not in this build";
    if (versions.loaded < versions.built)
        return nccl_version_text(versions.loaded) + ", too old: this program was built with " +
               nccl_version_text(versions.built);
    return nccl_version_text(versions.loaded);
}

}  // namespace fedit
