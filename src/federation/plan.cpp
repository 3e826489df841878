// federation/plan.cpp: samples a round's clients, forms cohorts, and spreads these over the ranks.
#include "fedit/federation/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <tuple>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"

namespace fedit {

int sample_size(double fraction, int num_clients) {
    if (!(fraction >= 0 && fraction <= 1))
        throw InputError({.what = "the share of clients to sample is out of range",
                          .where = fmt::format("--client-fraction = {}", fraction),
                          .remedy = "give --client-fraction between 0 and 1"});
    return static_cast<int>(std::max(1L, std::lround(fraction * num_clients)));
}

namespace {

/// Cohort c of C takes clients [c n / C, (c + 1) n / C) by size: where n is no multiple of C, the
/// small clients are more to a cohort.
std::vector<std::vector<std::size_t>> make_cohorts(std::span<const PlannedClient> clients,
                                                   int size) {
    std::vector<std::size_t> largest_first(clients.size());
    std::iota(largest_first.begin(), largest_first.end(), 0);
    std::ranges::stable_sort(largest_first, std::greater<>(),
                             [&](std::size_t i) { return clients[i].records; });
    const std::size_t most = static_cast<std::size_t>(size);
    const std::size_t count = (clients.size() + most - 1) / most;
    std::vector<std::vector<std::size_t>> cohorts;
    for (std::size_t c = 0; c < count; ++c) {
        const std::size_t first = c * clients.size() / count;
        const std::size_t last = (c + 1) * clients.size() / count;
        cohorts.emplace_back(largest_first.begin() + static_cast<std::ptrdiff_t>(first),
                             largest_first.begin() + static_cast<std::ptrdiff_t>(last));
    }
    return cohorts;
}

}  // namespace

RoundPlan plan_round(const PlanConfig& config, int round, std::span<const std::int64_t> records) {
    if (config.cohort < 1)
        throw std::logic_error(fmt::format("plan_round: cohorts of {}", config.cohort));
    std::vector<std::int64_t> able;
    for (std::size_t k = 0; k < records.size(); ++k)
        if (records[k] > 0) able.push_back(static_cast<std::int64_t>(k));
    if (able.empty())
        throw InputError({.what = "no client has a record with a target to learn from",
                          .where = fmt::format("{} clients", records.size()),
                          .remedy = "give records with responses, or a larger --cutoff-len"});
    RandomStream stream({.seed = config.seed,
                         .purpose = Purpose::sampling,
                         .round = static_cast<std::uint32_t>(round)});
    stream.shuffle(able);
    const auto wanted =
        static_cast<std::size_t>(sample_size(config.fraction, static_cast<int>(records.size())));
    able.resize(std::min(able.size(), wanted));
    std::ranges::sort(able);

    RoundPlan plan{.round = round, .clients = {}, .cohorts = {}, .records = 0};
    for (const std::int64_t k : able) plan.records += records[k];
    for (const std::int64_t k : able)
        plan.clients.push_back(
            {.client = static_cast<int>(k),
             .records = records[k],
             .weight = static_cast<double>(records[k]) / static_cast<double>(plan.records)});
    plan.cohorts = make_cohorts(plan.clients, config.cohort);
    return plan;
}

std::vector<std::vector<std::size_t>> place(std::span<const double> cost, int ranks) {
    if (ranks < 1) throw std::logic_error(fmt::format("place: {} ranks", ranks));
    for (const double c : cost)
        if (!(c >= 0 && std::isfinite(c)))
            throw std::logic_error(fmt::format("place: a cost of {} cannot be ordered", c));
    std::vector<std::size_t> longest_first(cost.size());
    std::iota(longest_first.begin(), longest_first.end(), 0);
    std::ranges::stable_sort(longest_first, std::greater<>(),
                             [&](std::size_t i) { return cost[i]; });

    std::vector<std::vector<std::size_t>> placed(ranks);
    std::vector<double> load(ranks, 0.0);
    for (const std::size_t i : longest_first) {
        int best = 0;
        for (int rank = 1; rank < ranks; ++rank)
            if (std::tuple(load[rank], placed[rank].size()) <
                std::tuple(load[best], placed[best].size()))
                best = rank;
        placed[best].push_back(i);
        load[best] += cost[i];
    }
    return placed;
}

}  // namespace fedit
