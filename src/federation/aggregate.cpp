// federation/aggregate.cpp: fixed-point words of client updates, their sum, and FedAvg's step.
#include "fedit/federation/aggregate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string_view>

#include "federation/vector_loops.h"
#include "fedit/core/error.h"

namespace fedit {

namespace {

/// Values that go to a device at a time, or are screened just before they are added: few enough to
/// be in a cache still, enough for the threads of a back end.
constexpr std::size_t part_size = std::size_t{1} << 18;

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

/// Where an update's squares sum to no more, no value is beyond update_bound. Far below its square,
/// so that no rounding matters.
constexpr double surely_near = update_bound * update_bound / 2;

double sum(const std::array<double, vector_loops::lanes>& squares) {
    return std::accumulate(squares.begin(), squares.end(), 0.0);
}

/// What screen() says of two vectors of one length, or nothing.
std::optional<std::string> far_value(std::span<const float> client, std::span<const float> global,
                                     std::size_t first) {
    if (vector_loops::all_near(client.data(), global.data(), client.size(), update_bound))
        return std::nullopt;
    std::size_t i = 0;
    while (vector_loops::all_near(&client[i], &global[i], 1, update_bound)) ++i;
    if (!std::isfinite(client[i])) return fmt::format("value {} is {}", first + i, client[i]);
    return fmt::format("value {} is {}, further than {} from the global {}", first + i, client[i],
                       update_bound, global[i]);
}

std::optional<std::string> other_length(std::size_t client, std::size_t global) {
    if (client == global) return std::nullopt;
    return fmt::format("has {} values, the global vector has {}", client, global);
}

/// What one word counts in the mean update.
double mean_of_one(std::int64_t surviving_records, std::int64_t planned_records) {
    if (surviving_records <= 0)
        throw RunError({.what = "no client's update survived the round",
                        .where = fmt::format("{} records were planned", planned_records),
                        .remedy = "see the rejected clients in the log; a lower --learning-rate "
                                  "often helps"});
    if (surviving_records > planned_records)
        throw RunError({.what = fmt::format("updates of {} records were summed", surviving_records),
                        .where = fmt::format("{} records were planned", planned_records),
                        .remedy = "an update was added twice, or is of another round"});
    return static_cast<double>(planned_records) / static_cast<double>(surviving_records) * 0x1p-52;
}

}  // namespace

std::optional<std::string> screen(std::span<const float> client, std::span<const float> global) {
    if (auto reason = other_length(client.size(), global.size())) return reason;
    return far_value(client, global, 0);
}

double update_norm(std::span<const float> client, std::span<const float> global) {
    require_same_length("a client's vector", client.size(), global.size());
    double total = 0;
    for_each_part(client.size(), squared_norm_block, [&](std::size_t first, std::size_t count) {
        std::array<double, vector_loops::lanes> squares{};
        vector_loops::add_squared_differences(&client[first], &global[first], count,
                                              squares.data());
        total += sum(squares);
    });
    return std::sqrt(total);
}

OrderFreeSum::OrderFreeSum(Backend& backend, std::size_t size)
    : backend_(backend),
      host_memory_(backend.info().host_memory),
      size_(size),
      words_(backend, size * sizeof(std::uint64_t)) {
    clear();
    if (host_memory_) return;
    client_ = DeviceBuffer(backend, std::min(size, part_size) * sizeof(float));
    global_ = DeviceBuffer(backend, std::min(size, part_size) * sizeof(float));
}

void OrderFreeSum::clear() {
    backend_.fill({words_.floats(), 2 * size_}, 0);  // a float's 0 has no bits either
    weight_ = 0;
    records_ = 0;
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

void OrderFreeSum::accumulate(std::span<const float> client, std::span<const float> global,
                              std::size_t first, double weight) {
    const std::size_t count = client.size();
    if (!host_memory_) {
        backend_.upload(client_.data(), std::as_bytes(client));
        backend_.upload(global_.data(), std::as_bytes(global));
        client = {client_.floats(), count};
        global = {global_.floats(), count};
    }
    backend_.accumulate_fixed(words().subspan(first, count), client, global, weight);
}

void OrderFreeSum::require_weight(double weight) const {
    if (!(weight >= 0 && weight_ + weight <= weight_bound))
        throw RunError({.what = fmt::format("weight {} cannot be added to a sum of weight {}",
                                            weight, weight_),
                        .where = "aggregation of client updates",
                        .remedy = fmt::format("weights are at least 0 and sum to at most {}, else "
                                              "the 64-bit sum overflows",
                                              weight_bound)});
}

std::optional<std::string> OrderFreeSum::add(std::span<const float> client,
                                             std::span<const float> global, double weight,
                                             std::int64_t records) {
    require_same_length("the global vector", global.size(), size_);
    require_weight(weight);
    std::optional<std::string> reason = other_length(client.size(), global.size());
    if (reason) return reason;
    const auto part = [](std::span<const float> x, std::size_t first) {
        return x.subspan(first, std::min(part_size, x.size() - first));
    };
    std::size_t added = 0;
    for (; added < size_ && !reason; added += part_size) {
        reason = far_value(part(client, added), part(global, added), added);
        if (!reason) accumulate(part(client, added), part(global, added), added, weight);
    }
    if (reason) {
        // What was added before the bad place is taken back: rounding to even is symmetric.
        for (std::size_t first = 0; first + part_size < added; first += part_size)
            accumulate(part(client, first), part(global, first), first, -weight);
        return reason;
    }
    weight_ += weight;
    records_ += records;
    return std::nullopt;
}

std::optional<double> OrderFreeSum::add_near(const float* client, const float* global,
                                             double weight, std::int64_t records) {
    require_weight(weight);
    const double squares = backend_.squared_distance({client, size_}, {global, size_});
    if (!(squares <= surely_near)) return std::nullopt;
    backend_.accumulate_fixed(words(), {client, size_}, {global, size_}, weight);
    weight_ += weight;
    records_ += records;
    return std::sqrt(squares);
}

ServerStep::ServerStep(std::span<float> x, std::int64_t surviving_records,
                       std::int64_t planned_records)
    : x_(x), unit_(mean_of_one(surviving_records, planned_records)) {}

void ServerStep::take(std::span<const std::uint64_t> words) {
    if (words.size() > x_.size() - taken_)
        require_same_length("the sum of updates", taken_ + words.size(), x_.size());
    for_each_part(words.size(), vector_loops::step_values, [&](std::size_t at, std::size_t count) {
        float* const x = &x_[taken_ + at];
        vector_loops::server_step(x, &words[at], count, taken_ + at, unit_, squares_.data());
        checksum_ += vector_loops::checksum(x, count, taken_ + at);
    });
    taken_ += words.size();
}

double ServerStep::update_norm() const {
    return std::sqrt(sum(squares_));
}

std::uint64_t checksum(std::span<const float> x) {
    return vector_loops::checksum(x.data(), x.size(), 0);
}

}  // namespace fedit
