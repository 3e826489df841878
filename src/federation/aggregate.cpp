// federation/aggregate.cpp: fixed-point words of client updates, their sum, and FedAvg's step.
#include "fedit/federation/aggregate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <string_view>

#include "fedit/core/error.h"

namespace fedit {

namespace {

constexpr double words_per_unit = 0x1p52;
/// Values that go to a device, or words that come from it, at a time.
constexpr std::size_t part_size = std::size_t{1} << 20;
/// Values that the host works on at a time: they and their results stay in its cache.
constexpr std::size_t block_size = 4096;

/// Calls visit(first, count) for each part of [0, size), in order.
template <class Visit>
void for_each_part(std::size_t size, std::size_t part, Visit visit) {
    for (std::size_t first = 0; first < size; first += part)
        visit(first, std::min(part, size - first));
}

void require_same_length(std::string_view what, std::size_t got, std::size_t want) {
    if (got == want) return;
    throw ShapeError({.what = fmt::format("{} has {} values, expected {}", what, got, want),
                      .where = "aggregation of client updates",
                      .remedy = "only vectors of one layout can be summed"});
}

/// Eight sums of squares that take turns, so that a processor need not wait for one addition before
/// the next.
class SquaredSum {
public:
    /// Adds value(i)^2 for each i < count; the turns begin anew with each call.
    template <class Value>
    void add(std::size_t count, const Value& value) {
        std::size_t i = 0;
        for (; i + lanes <= count; i += lanes) {
            for (std::size_t lane = 0; lane < lanes; ++lane) add_one(lane, value(i + lane));
        }
        for (std::size_t lane = 0; i + lane < count; ++lane) add_one(lane, value(i + lane));
    }
    double root() const { return std::sqrt(std::accumulate(sums_.begin(), sums_.end(), 0.0)); }

private:
    static constexpr std::size_t lanes = 8;
    void add_one(std::size_t lane, double value) { sums_[lane] += value * value; }
    std::array<double, lanes> sums_{};
};

/// x <- fp32(x + delta), in double, and delta to `norm`; blocks of block_size in order.
void add_update(std::span<float> x, std::span<const double> delta, SquaredSum& norm) {
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(static_cast<double>(x[i]) + delta[i]);
    norm.add(x.size(), [&](std::size_t i) { return delta[i]; });
}

double difference(float client, float global) {
    return static_cast<double>(client) - static_cast<double>(global);
}

/// False for NaN.
bool is_near(float client, float global) {
    return std::abs(difference(client, global)) < update_bound;
}

/// The first place where they are not near, or their size. A whole block is looked at without
/// leaving early, which a processor does for several values at once.
std::size_t first_far(std::span<const float> client, std::span<const float> global) {
    std::size_t found = client.size();
    for_each_part(client.size(), block_size, [&](std::size_t first, std::size_t count) {
        if (found < client.size()) return;
        int far = 0;
        for (std::size_t i = first; i < first + count; ++i)
            far |= is_near(client[i], global[i]) ? 0 : 1;
        if (far == 0) return;
        found = first;
        while (is_near(client[found], global[found])) ++found;
    });
    return found;
}

}  // namespace

std::optional<std::string> screen(std::span<const float> client, std::span<const float> global) {
    if (client.size() != global.size())
        return fmt::format("has {} values, the global vector has {}", client.size(), global.size());
    const std::size_t i = first_far(client, global);
    if (i == client.size()) return std::nullopt;
    if (!std::isfinite(client[i])) return fmt::format("value {} is {}", i, client[i]);
    return fmt::format("value {} is {}, further than {} from the global {}", i, client[i],
                       update_bound, global[i]);
}

double update_norm(std::span<const float> client, std::span<const float> global) {
    require_same_length("a client's vector", client.size(), global.size());
    SquaredSum norm;
    norm.add(client.size(), [&](std::size_t i) { return difference(client[i], global[i]); });
    return norm.root();
}

OrderFreeSum::OrderFreeSum(Backend& backend, std::size_t size)
    : backend_(backend),
      host_memory_(backend.info().host_memory),
      size_(size),
      words_(backend, size * sizeof(std::uint64_t)) {
    backend_.fill({words_.floats(), 2 * size}, 0);  // a float's 0 has no bits either
    if (host_memory_) return;
    client_ = DeviceBuffer(backend, std::min(size, part_size) * sizeof(float));
    global_ = DeviceBuffer(backend, std::min(size, part_size) * sizeof(float));
}

std::size_t OrderFreeSum::device_bytes(std::size_t size) {
    return size * sizeof(std::uint64_t) + 2 * std::min(size, part_size) * sizeof(float);
}

std::span<std::uint64_t> OrderFreeSum::words() {
    return {reinterpret_cast<std::uint64_t*>(words_.data()), size_};
}

std::vector<std::uint64_t> OrderFreeSum::host_words() const {
    std::vector<std::uint64_t> copy(size_);
    backend_.download(std::as_writable_bytes(std::span(copy)), words_.data());
    return copy;
}

void OrderFreeSum::add(std::span<const float> client, std::span<const float> global, double weight,
                       std::int64_t records) {
    require_same_length("a client's vector", client.size(), size_);
    require_same_length("the global vector", global.size(), size_);
    if (!(weight >= 0 && weight_ + weight <= weight_bound))
        throw RunError({.what = fmt::format("weight {} cannot be added to a sum of weight {}",
                                            weight, weight_),
                        .where = "aggregation of client updates",
                        .remedy = fmt::format("weights are at least 0 and sum to at most {}, else "
                                              "the 64-bit sum overflows",
                                              weight_bound)});
    if (host_memory_) {
        backend_.accumulate_fixed(words(), client, global, weight);
    } else {
        for_each_part(size_, part_size, [&](std::size_t first, std::size_t count) {
            backend_.upload(client_.data(), std::as_bytes(client.subspan(first, count)));
            backend_.upload(global_.data(), std::as_bytes(global.subspan(first, count)));
            backend_.accumulate_fixed(words().subspan(first, count), {client_.floats(), count},
                                      {global_.floats(), count}, weight);
        });
    }
    weight_ += weight;
    records_ += records;
}

template <class Visit>
void OrderFreeSum::for_each_mean(std::int64_t planned_records, Visit visit) const {
    if (records_ <= 0)
        throw RunError({.what = "no client's update survived the round",
                        .where = fmt::format("{} records were planned", planned_records),
                        .remedy = "see the rejected clients in the log; a lower --learning-rate "
                                  "often helps"});
    if (records_ > planned_records)
        throw RunError({.what = fmt::format("updates of {} records were summed", records_),
                        .where = fmt::format("{} records were planned", planned_records),
                        .remedy = "an update was added twice, or is of another round"});
    const double scale = static_cast<double>(planned_records) / static_cast<double>(records_);
    std::vector<double> mean(std::min(size_, block_size));
    for_each_host_part([&](std::size_t begin, std::span<const std::uint64_t> words) {
        for_each_part(words.size(), block_size, [&](std::size_t first, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i) {
                const auto sum = static_cast<std::int64_t>(words[first + i]);
                mean[i] = static_cast<double>(sum) / words_per_unit * scale;
            }
            visit(begin + first, std::span<const double>(mean.data(), count));
        });
    });
}

template <class Visit>
void OrderFreeSum::for_each_host_part(Visit visit) const {
    const auto* const words = reinterpret_cast<const std::uint64_t*>(words_.data());
    if (host_memory_) return visit(std::size_t{0}, std::span(words, size_));
    std::vector<std::uint64_t> copy(std::min(size_, part_size));
    for_each_part(size_, part_size, [&](std::size_t first, std::size_t count) {
        const std::span<std::uint64_t> part(copy.data(), count);
        backend_.download(std::as_writable_bytes(part), words + first);
        visit(first, std::span<const std::uint64_t>(part));
    });
}

std::vector<double> OrderFreeSum::mean(std::int64_t planned_records) const {
    std::vector<double> delta(size_);
    for_each_mean(planned_records, [&](std::size_t first, std::span<const double> part) {
        std::ranges::copy(part, delta.begin() + static_cast<std::ptrdiff_t>(first));
    });
    return delta;
}

double OrderFreeSum::apply_mean(std::span<float> x, std::int64_t planned_records) const {
    require_same_length("the global vector", x.size(), size_);
    SquaredSum norm;
    for_each_mean(planned_records, [&](std::size_t first, std::span<const double> part) {
        add_update(x.subspan(first, part.size()), part, norm);
    });
    return norm.root();
}

double apply_update(std::span<float> x, std::span<const double> delta) {
    require_same_length("an update", delta.size(), x.size());
    SquaredSum norm;
    add_update(x, delta, norm);
    return norm.root();
}

std::uint64_t checksum(std::span<const float> x) {
    std::uint64_t sum = 0;
    std::uint32_t odd = 1;
    for (const float value : x) {
        sum += std::uint64_t{std::bit_cast<std::uint32_t>(value)} * odd;
        odd += 0x9e3779b2U;  // even, and its multiples visit the numbers below 2^32 evenly
    }
    return sum;
}

}  // namespace fedit
