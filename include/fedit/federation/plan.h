// federation/plan.h: who takes part in a round, with what weight, beside whom, and on which rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fedit {

struct PlannedClient {
    int client = 0;
    std::int64_t records = 0;  ///< n_k: records with at least one target
    double weight = 0;         ///< n_k / sum n
    bool operator==(const PlannedClient&) const = default;
};

/// What decides a plan besides the round and who holds how much.
struct PlanConfig {
    std::uint64_t seed = 0;
    double fraction = 1;  ///< of all clients, sampled each round
    int cohort = 1;       ///< clients that train in one pass, at most
};

/// A pure function of (config, round, n_k); equal on every rank.
struct RoundPlan {
    int round = 0;
    std::vector<PlannedClient> clients;  ///< ascending by client
    /// Places in `clients` of those that train together, each once: neighbours by size, the
    /// largest first. How many ranks there are does not matter, because on some back ends a
    /// client's bits depend on who shares its passes.
    std::vector<std::vector<std::size_t>> cohorts;
    std::int64_t records = 0;  ///< sum of n_k
    bool operator==(const RoundPlan&) const = default;
};

/// max(1, lround(fraction * clients)) of `num_clients`. Throws InputError if fraction is not in
/// [0, 1].
int sample_size(double fraction, int num_clients);

/// Samples sample_size(fraction, all clients) clients, or all that can be had, without replacement
/// among those with n_k > 0 (Philox, Purpose::sampling, round), and puts them into as few cohorts
/// as config.cohort allows, of even size. `records`: n_k of every client. Throws InputError if no
/// client has a record with a target.
RoundPlan plan_round(const PlanConfig& config, int round, std::span<const std::int64_t> records);

/// Static longest-first placement: result[rank] lists places in `cost`, longest first. Each goes to
/// the rank with the least to do; ties: the fewest, then the lower rank. Changes no bit of the
/// result, only who computes it. cost: one a cohort, any unit, at least 0.
std::vector<std::vector<std::size_t>> place(std::span<const double> cost, int ranks);

}  // namespace fedit
