// federation/aggregate.cpp: fixed-point words of client updates, their sum, and FedAvg's step.
#include "fedit/federation/aggregate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "fedit/core/error.h"

namespace fedit {

namespace {

constexpr double words_per_unit = 0x1p52;
/// Values that go to the back end, or words that come from it, at a time.
constexpr std::size_t part_size = std::size_t{1} << 20;

/// Calls visit(first, count) for each part of [0, size), in order.
template <class Visit>
void for_each_part(std::size_t size, Visit visit) {
    for (std::size_t first = 0; first < size; first += part_size)
        visit(first, std::min(part_size, size - first));
}

void require_same_length(std::string_view what, std::size_t got, std::size_t want) {
    if (got == want) return;
    throw ShapeError({.what = fmt::format("{} has {} values, expected {}", what, got, want),
                      .where = "aggregation of client updates",
                      .remedy = "only vectors of one layout can be summed"});
}

/// x <- fp32(x + delta), in double. `squares` and the sum of delta's, added in order.
double add_update(std::span<float> x, std::span<const double> delta, double squares) {
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(static_cast<double>(x[i]) + delta[i]);
        squares += delta[i] * delta[i];
    }
    return squares;
}

}  // namespace

std::optional<std::string> screen(std::span<const float> client, std::span<const float> global) {
    if (client.size() != global.size())
        return fmt::format("has {} values, the global vector has {}", client.size(), global.size());
    for (std::size_t i = 0; i < client.size(); ++i) {
        const double difference = static_cast<double>(client[i]) - static_cast<double>(global[i]);
        if (std::abs(difference) < update_bound) continue;  // false for NaN
        if (!std::isfinite(client[i])) return fmt::format("value {} is {}", i, client[i]);
        return fmt::format("value {} is {}, further than {} from the global {}", i, client[i],
                           update_bound, global[i]);
    }
    return std::nullopt;
}

OrderFreeSum::OrderFreeSum(Backend& backend, std::size_t size)
    : backend_(backend),
      size_(size),
      words_(backend, size * sizeof(std::uint64_t)),
      client_(backend, std::min(size, part_size) * sizeof(float)),
      global_(backend, std::min(size, part_size) * sizeof(float)) {
    backend_.fill({words_.floats(), 2 * size}, 0);  // a float's 0 has no bits either
}

std::size_t OrderFreeSum::device_bytes(std::size_t size) {
    return size * sizeof(std::uint64_t) + 2 * std::min(size, part_size) * sizeof(float);
}

std::span<std::uint64_t> OrderFreeSum::words() {
    return {reinterpret_cast<std::uint64_t*>(words_.data()), size_};
}

void OrderFreeSum::download(std::span<std::uint64_t> to, std::size_t first) const {
    backend_.download(std::as_writable_bytes(to), words_.data() + first * sizeof(std::uint64_t));
}

std::vector<std::uint64_t> OrderFreeSum::host_words() const {
    std::vector<std::uint64_t> copy(size_);
    download(copy, 0);
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
    for_each_part(size_, [&](std::size_t first, std::size_t count) {
        backend_.upload(client_.data(), std::as_bytes(client.subspan(first, count)));
        backend_.upload(global_.data(), std::as_bytes(global.subspan(first, count)));
        backend_.accumulate_fixed(words().subspan(first, count), {client_.floats(), count},
                                  {global_.floats(), count}, weight);
    });
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
    std::vector<std::uint64_t> words(std::min(size_, part_size));
    std::vector<double> mean(words.size());
    for_each_part(size_, [&](std::size_t first, std::size_t count) {
        download({words.data(), count}, first);
        for (std::size_t i = 0; i < count; ++i) {
            const auto sum = static_cast<std::int64_t>(words[i]);
            mean[i] = static_cast<double>(sum) / words_per_unit * scale;
        }
        visit(first, std::span<const double>(mean.data(), count));
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
    double squares = 0;
    for_each_mean(planned_records, [&](std::size_t first, std::span<const double> part) {
        squares = add_update(x.subspan(first, part.size()), part, squares);
    });
    return std::sqrt(squares);
}

double apply_update(std::span<float> x, std::span<const double> delta) {
    require_same_length("an update", delta.size(), x.size());
    return std::sqrt(add_update(x, delta, 0));
}

}  // namespace fedit
