// experiment/aggregation_log.cpp: module by module to the rank whose turn it is, in the order of
// the clients.
#include "experiment/aggregation_log.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "fedit/federation/aggregation_error.h"

namespace fedit {

namespace {

/// A client of any rank, and where its values stand among those that its rank sends.
struct Entry {
    std::int64_t client = 0;
    double weight = 0;
    std::int64_t rank = 0, place = 0;
};

template <class Value>
std::vector<Value> joined(const std::vector<Bytes>& parts) {
    std::vector<Value> values;
    for (const Bytes& part : parts) {
        const std::size_t before = values.size();
        values.resize(before + part.size() / sizeof(Value));
        if (!part.empty()) std::memcpy(values.data() + before, part.data(), part.size());
    }
    return values;
}

/// The summed clients of all ranks, ascending by client.
std::vector<Entry> entries_of_all(const Communicator& comm, std::span<const SummedClient> mine) {
    std::vector<Entry> entries;
    for (const SummedClient& client : mine)
        entries.push_back({client.client, client.weight, comm.rank(), std::ssize(entries)});
    entries = joined<Entry>(comm.all_gather(std::as_bytes(std::span(std::as_const(entries)))));
    std::ranges::sort(entries, {}, &Entry::client);
    return entries;
}

std::size_t size_of(const Module& module) {
    return static_cast<std::size_t>(
        std::accumulate(module.spans.begin(), module.spans.end(), std::int64_t{0},
                        [](std::int64_t sum, const Span& span) { return sum + span.size(); }));
}

/// The module's values of this rank's clients, end to end.
std::vector<float> slices(const Module& module, std::span<const SummedClient> mine) {
    std::vector<float> values;
    for (const SummedClient& client : mine) {
        const auto first = client.x.begin() + module.spans.front().offset;
        values.insert(values.end(), first, first + static_cast<std::ptrdiff_t>(size_of(module)));
    }
    return values;
}

/// From what each rank sent.
AggregationError error_of(const Module& module, std::span<const float> x,
                          const std::vector<Entry>& entries, const std::vector<Bytes>& sent) {
    const std::size_t size = size_of(module);
    std::vector<std::vector<float>> values;
    for (const Bytes& part : sent) values.push_back(joined<float>({part}));
    std::vector<WeightedModule> clients;
    for (const Entry& entry : entries) {
        const std::span<const float> of_rank = values[static_cast<std::size_t>(entry.rank)];
        clients.push_back(
            {entry.weight, of_rank.subspan(static_cast<std::size_t>(entry.place) * size, size)});
    }
    const auto begin = static_cast<std::size_t>(module.spans.front().offset);
    return aggregation_error(module, x.subspan(begin, size), clients);
}

}  // namespace

AggregationLoss aggregation_loss(const Communicator& comm, const Layout& layout,
                                 std::span<const float> x, std::span<const SummedClient> mine) {
    const std::vector<Entry> entries = entries_of_all(comm, mine);
    std::vector<AggregationError> mine_done;  // of every ranks-th module
    const std::size_t ranks = static_cast<std::size_t>(comm.size());
    const std::size_t rank = static_cast<std::size_t>(comm.rank());
    for (std::size_t first = 0; first < layout.modules.size(); first += ranks) {
        const std::size_t end = std::min(first + ranks, layout.modules.size());
        std::vector<Bytes> sent;  // of the module that is this rank's
        for (std::size_t m = first; m < end; ++m) {
            const std::vector<float> values = slices(layout.modules[m], mine);
            std::vector<Bytes> parts =
                comm.gather(std::as_bytes(std::span(values)), static_cast<int>(m - first));
            if (m - first == rank) sent = std::move(parts);
        }
        if (first + rank < end)
            mine_done.push_back(error_of(layout.modules[first + rank], x, entries, sent));
    }

    const std::vector<Bytes> done =
        comm.all_gather(std::as_bytes(std::span(std::as_const(mine_done))));
    AggregationError plain, scaled;
    for (std::size_t m = 0; m < layout.modules.size(); ++m) {
        AggregationError module;
        std::memcpy(&module, done[m % ranks].data() + m / ranks * sizeof module, sizeof module);
        const double square = layout.modules[m].scale * layout.modules[m].scale;
        plain.error += module.error;
        scaled.error += square * module.error;
        scaled.mean_product += square * module.mean_product;
    }
    return {.error = std::sqrt(plain.error),
            .relative = scaled.error > 0 ? std::sqrt(scaled.error / scaled.mean_product) : 0};
}

}  // namespace fedit
