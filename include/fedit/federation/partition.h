// federation/partition.h: which client holds which records.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fedit {

enum class PartitionKind : std::uint8_t { iid, dirichlet, shards, files };

struct PartitionConfig {
    PartitionKind kind = PartitionKind::iid;
    int num_clients = 10;
    double alpha = 0.5;            ///< dirichlet: concentration over clients within each category
    std::int64_t min_records = 1;  ///< dirichlet: redraw until every client has these
    int shards_per_client = 2;     ///< shards: of the records sorted by category
    std::uint64_t seed = 0;
};

/// Redraws of a Dirichlet partition before it is given up.
inline constexpr int max_redraws = 1000;

/// records[k]: the record indices of client k, ascending.
struct Partition {
    std::vector<std::vector<std::int64_t>> records;
};

/// Deals the records 0 .. category.size() - 1 to clients, each to exactly one. A pure function of
/// its arguments. `category` has one index a record, in [0, num_categories). iid: shuffled, then
/// dealt evenly (sizes differ by at most one). shards: sorted by category, cut into shards of even
/// size, shards_per_client to each at random. dirichlet: as Shepherd: category by category the
/// clients' shares are Dirichlet(alpha), a client that has N / clients or more gets no more, cuts
/// are the truncated cumulative shares; all redrawn until every client has min_records. Throws
/// InputError, naming the options, if there are fewer records than clients (or shards), an option
/// is out of range, or no draw met min_records (with the best minimum seen). Files say who holds
/// what themselves: that kind is a std::logic_error.
Partition make_partition(const PartitionConfig& config, std::span<const std::int32_t> category,
                         std::int64_t num_categories);

}  // namespace fedit
