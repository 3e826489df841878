// federation/partition.cpp: deals records to clients: iid, by Dirichlet shares, or in shards.
#include "fedit/federation/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "fedit/core/error.h"
#include "fedit/core/rng.h"

namespace fedit {

namespace {

using Records = std::vector<std::int64_t>;

/// Beyond these, a share's logarithm is no longer a useful double.
constexpr double min_alpha = 1e-6, max_alpha = 1e9;

std::vector<Fault> find_faults(const PartitionConfig& config, std::int64_t num_records) {
    std::vector<Fault> faults;
    const auto require = [&](bool holds, std::string what, std::string where, std::string remedy) {
        if (!holds) faults.push_back({std::move(what), std::move(where), std::move(remedy)});
    };
    const std::string clients = fmt::format("--num-clients = {}", config.num_clients);
    require(config.num_clients >= 1, "there must be at least one client", clients,
            "give --num-clients at least 1");
    require(
        num_records >= config.num_clients,
        fmt::format("{} records cannot be dealt to {} clients", num_records, config.num_clients),
        clients, fmt::format("give more records, or at most {} clients", num_records));
    if (config.kind == PartitionKind::shards) {
        const std::int64_t shards =
            static_cast<std::int64_t>(config.num_clients) * config.shards_per_client;
        const std::string where =
            fmt::format("{}, --shards-per-client = {}", clients, config.shards_per_client);
        require(config.shards_per_client >= 1, "a client must hold at least one shard", where,
                "give --shards-per-client at least 1");
        require(num_records >= shards,
                fmt::format("{} records cannot be cut into {} shards", num_records, shards), where,
                "lower --num-clients or --shards-per-client, or give more records");
    }
    if (config.kind == PartitionKind::dirichlet) {
        require(config.alpha >= min_alpha && config.alpha <= max_alpha,
                "the Dirichlet concentration is out of range",
                fmt::format("--alpha = {}", config.alpha),
                fmt::format("give --alpha between {} and {}", min_alpha, max_alpha));
        const std::string where =
            fmt::format("{}, --min-records = {}", clients, config.min_records);
        require(config.min_records >= 0, "the least number of records is negative", where,
                "give --min-records at least 0");
        require(config.num_clients < 1 || config.min_records <= num_records / config.num_clients,
                fmt::format("{} records are too few for {} clients with at least {} each",
                            num_records, config.num_clients, config.min_records),
                where, "lower --num-clients or --min-records, or give more records");
    }
    return faults;
}

/// Where part `i` of `parts` nearly equal parts of `size` begins.
std::int64_t part_begin(std::int64_t size, std::int64_t i, std::int64_t parts) {
    return size / parts * i + std::min(size % parts, i);
}

Records all_records(std::size_t size) {
    Records records(size);
    std::iota(records.begin(), records.end(), 0);
    return records;
}

Partition deal_evenly(const PartitionConfig& config, Records records, RandomStream& stream) {
    stream.shuffle(records);
    const auto size = static_cast<std::int64_t>(records.size());
    Partition partition{std::vector<Records>(config.num_clients)};
    for (int k = 0; k < config.num_clients; ++k)
        partition.records[k].assign(records.begin() + part_begin(size, k, config.num_clients),
                                    records.begin() + part_begin(size, k + 1, config.num_clients));
    return partition;
}

Partition deal_shards(const PartitionConfig& config, std::span<const std::int32_t> category,
                      RandomStream& stream) {
    Records records = all_records(category.size());
    std::ranges::stable_sort(records, {}, [&](std::int64_t i) { return category[i]; });
    const auto size = static_cast<std::int64_t>(records.size());
    const std::int64_t count =
        static_cast<std::int64_t>(config.num_clients) * config.shards_per_client;
    Records shards = all_records(count);
    stream.shuffle(shards);
    Partition partition{std::vector<Records>(config.num_clients)};
    for (std::int64_t i = 0; i < count; ++i) {
        Records& mine = partition.records[i / config.shards_per_client];
        mine.insert(mine.end(), records.begin() + part_begin(size, shards[i], count),
                    records.begin() + part_begin(size, shards[i] + 1, count));
    }
    return partition;
}

/// How many records of one category each client gets, given how many it has.
/// A Gamma(alpha) variate is Gamma(alpha + 1) U^(1 / alpha). Its logarithm is kept, because for a
/// small alpha all the variates of a category would underflow to zero.
Records draw_category(const PartitionConfig& config, std::int64_t category_size,
                      std::int64_t num_records, const Records& held, RandomStream& stream) {
    std::vector<double> log_share(held.size());
    double largest = -std::numeric_limits<double>::infinity();
    const auto open = [&](std::size_t k) { return held[k] * config.num_clients < num_records; };
    for (std::size_t k = 0; k < held.size(); ++k) {
        log_share[k] =
            std::log(stream.gamma(config.alpha + 1)) + std::log1p(-stream.uniform()) / config.alpha;
        if (open(k)) largest = std::max(largest, log_share[k]);
    }
    // The last open client's cumulative share equals the total to the bit, so nothing is left over.
    std::vector<double> cumulative(held.size());
    double total = 0;
    for (std::size_t k = 0; k < held.size(); ++k)
        cumulative[k] = total += open(k) ? std::exp(log_share[k] - largest) : 0.0;
    Records counts(held.size());
    std::int64_t begin = 0;
    for (std::size_t k = 0; k < held.size(); ++k) {
        const auto end =
            static_cast<std::int64_t>(cumulative[k] / total * static_cast<double>(category_size));
        counts[k] = end - begin;
        begin = end;
    }
    return counts;
}

/// counts[c][k]: how many records of category c client k gets. Redrawn until all have enough.
std::vector<Records> draw_counts(const PartitionConfig& config, std::span<const Records> categories,
                                 std::int64_t num_records, RandomStream& stream) {
    std::int64_t best = 0;
    for (int draw = 0; draw <= max_redraws; ++draw) {
        Records held(config.num_clients, 0);
        std::vector<Records> counts;
        for (const Records& members : categories) {
            if (members.empty()) {
                counts.emplace_back(config.num_clients, 0);
                continue;
            }
            counts.push_back(draw_category(config, static_cast<std::int64_t>(members.size()),
                                           num_records, held, stream));
            std::ranges::transform(held, counts.back(), held.begin(), std::plus<>());
        }
        const std::int64_t fewest = *std::ranges::min_element(held);
        if (fewest >= config.min_records) return counts;
        best = std::max(best, fewest);
    }
    throw InputError(
        {.what = fmt::format("no Dirichlet partition in {} redraws gave each of {} "
                             "clients {} records; the best gave {}",
                             max_redraws, config.num_clients, config.min_records, best),
         .where = fmt::format("{} records, --num-clients = {}, --alpha = {}, "
                              "--min-records = {}, --seed = {}",
                              num_records, config.num_clients, config.alpha, config.min_records,
                              config.seed),
         .remedy = "lower --num-clients or --min-records, raise --alpha, or try "
                   "another --seed"});
}

Partition deal_dirichlet(const PartitionConfig& config, std::span<const std::int32_t> category,
                         std::int64_t num_categories, RandomStream& stream) {
    std::vector<Records> categories(num_categories);
    for (std::size_t i = 0; i < category.size(); ++i)
        categories[category[i]].push_back(static_cast<std::int64_t>(i));
    const auto counts =
        draw_counts(config, categories, static_cast<std::int64_t>(category.size()), stream);
    Partition partition{std::vector<Records>(config.num_clients)};
    for (std::size_t c = 0; c < categories.size(); ++c) {
        stream.shuffle(categories[c]);
        auto next = categories[c].cbegin();
        for (int k = 0; k < config.num_clients; ++k) {
            Records& mine = partition.records[k];
            mine.insert(mine.end(), next, next + counts[c][k]);
            next += counts[c][k];
        }
    }
    return partition;
}

Partition deal(const PartitionConfig& config, std::span<const std::int32_t> category,
               std::int64_t num_categories) {
    RandomStream stream({.seed = config.seed, .purpose = Purpose::partition});
    switch (config.kind) {
        case PartitionKind::iid:
            return deal_evenly(config, all_records(category.size()), stream);
        case PartitionKind::dirichlet:
            return deal_dirichlet(config, category, num_categories, stream);
        case PartitionKind::shards:
            return deal_shards(config, category, stream);
        case PartitionKind::files:
            break;
    }
    throw std::logic_error("make_partition: client files say who holds what; nothing to deal");
}

}  // namespace

Partition make_partition(const PartitionConfig& config, std::span<const std::int32_t> category,
                         std::int64_t num_categories) {
    for (const std::int32_t c : category)
        if (c < 0 || c >= num_categories)
            throw std::logic_error(
                fmt::format("make_partition: category {} is not in [0, {})", c, num_categories));
    auto faults = find_faults(config, static_cast<std::int64_t>(category.size()));
    if (!faults.empty()) throw InputError(std::move(faults));
    Partition partition = deal(config, category, num_categories);
    for (Records& mine : partition.records) std::ranges::sort(mine);
    return partition;
}

}  // namespace fedit
