// federation/partition.h: which client holds which records.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace fedit {

enum class PartitionKind : std::uint8_t { iid, dirichlet, shards, files };

struct PartitionConfig {
    PartitionKind kind = PartitionKind::iid;
    int num_clients = 10;
    double alpha = 0.5;          ///< dirichlet: concentration over clients within each category
    std::int64_t min_records = 1;  ///< dirichlet: redraw until every client has these
    int shards_per_client = 2;   ///< shards: of the records sorted by category
    std::uint64_t seed = 0;
};

/// records[k]: the record indices of client k, ascending.
struct Partition {
    std::vector<std::vector<std::int64_t>> records;
};

/// A pure function of its arguments. `category` has one index a record. dirichlet: as Shepherd, at
/// most 1,000 redraws, a client above N / clients gets no more; then InputError with the best minimum
/// seen and the options. Throws InputError if there are fewer records than clients (or shards).
Partition make_partition(const PartitionConfig& config, std::span<const std::int32_t> category,
                         std::int64_t num_categories);

}  // namespace fedit
