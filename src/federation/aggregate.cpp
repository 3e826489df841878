// federation/aggregate.cpp: fixed-point words of client updates, their sum, and FedAvg's step.
#include "fedit/federation/aggregate.h"

#include <fmt/format.h>

#include <cmath>
#include <string_view>

#include "fedit/core/error.h"

namespace fedit {

namespace {

constexpr double words_per_unit = 0x1p52;

void require_same_length(std::string_view what, std::size_t got, std::size_t want) {
    if (got == want) return;
    throw ShapeError({.what = fmt::format("{} has {} values, expected {}", what, got, want),
                      .where = "aggregation of client updates",
                      .remedy = "only vectors of one layout can be summed"});
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

void OrderFreeSum::add(std::span<const float> client, std::span<const float> global, double weight,
                       std::int64_t records) {
    require_same_length("a client's vector", client.size(), words_.size());
    require_same_length("the global vector", global.size(), words_.size());
    if (!(weight >= 0 && weight_ + weight <= weight_bound))
        throw RunError({.what = fmt::format("weight {} cannot be added to a sum of weight {}",
                                            weight, weight_),
                        .where = "aggregation of client updates",
                        .remedy = fmt::format("weights are at least 0 and sum to at most {}, else "
                                              "the 64-bit sum overflows",
                                              weight_bound)});
    for (std::size_t i = 0; i < words_.size(); ++i) {
        const double difference = static_cast<double>(client[i]) - static_cast<double>(global[i]);
        const double product = difference * weight;
        words_[i] += static_cast<std::uint64_t>(std::llrint(product * words_per_unit));
    }
    weight_ += weight;
    records_ += records;
}

std::vector<double> OrderFreeSum::mean(std::int64_t planned_records) const {
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
    std::vector<double> delta(words_.size());
    for (std::size_t i = 0; i < words_.size(); ++i) {
        const auto sum = static_cast<std::int64_t>(words_[i]);
        delta[i] = static_cast<double>(sum) / words_per_unit * scale;
    }
    return delta;
}

double apply_update(std::span<float> x, std::span<const double> delta) {
    require_same_length("an update", delta.size(), x.size());
    double squares = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(static_cast<double>(x[i]) + delta[i]);
        squares += delta[i] * delta[i];
    }
    return std::sqrt(squares);
}

}  // namespace fedit
