// experiment/run_log.h: the rows of run.h5, kept in memory and written anew each round.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fedit/federation/partition.h"
#include "fedit/io/hdf5_image.h"

namespace fedit {

/// One start of the program on this run.
struct LifeRow {
    std::string start, end;  ///< ISO 8601, UTC; end is empty while it runs or was killed
    std::string end_reason;  ///< running, done, stopped, failed
    std::int64_t world_size = 0, first_round = 0, rounds_done = 0, threads = 0;
    std::string hosts, devices, slurm_job_id, versions;
};

inline constexpr double not_computed = std::numeric_limits<double>::quiet_NaN();

/// One finished round. Losses are means over labelled targets, in nats.
struct RoundRow {
    std::int64_t round = 0;
    double train_loss = not_computed, eval_loss = not_computed;
    std::int64_t clients = 0, rejected = 0, records = 0, tokens = 0, labelled_tokens = 0, steps = 0;
    std::int64_t skipped_batches = 0;
    double seconds_total = 0, seconds_train = 0, seconds_wait = 0, seconds_aggregate = 0;
    double seconds_evaluate = 0, seconds_write = 0;
    std::int64_t bytes_up = 0, bytes_down = 0;
    double update_norm = not_computed;
    double aggregation_error = not_computed, aggregation_error_relative = not_computed;
    std::int64_t peak_memory_bytes = 0;
};

/// One client in one round.
struct ClientRow {
    std::int64_t round = 0, client = 0, rank = 0, records = 0, tokens = 0, labelled_tokens = 0;
    std::int64_t steps = 0, skipped_batches = 0, rejected = 0;
    double loss_first = not_computed, loss_last = not_computed, loss_mean = not_computed;
    double update_norm = not_computed, seconds = 0;
};

/// One category in one evaluated round; category "all" is the whole. client -1: the global result;
/// with --mode local a client's own.
struct EvaluationRow {
    std::int64_t round = 0, client = -1;
    std::string category;
    double loss = not_computed, perplexity = not_computed, token_accuracy = not_computed;
    std::int64_t labelled_tokens = 0, records = 0, records_without_label = 0;
};

/// What never changes in a run, stored as root attributes.
struct RunFacts {
    std::string configuration;  ///< config.ini's text
    std::string identity;       ///< "name = value" lines
    std::string identity_hash;  ///< SHA-256 of these, hex
    std::string created;        ///< ISO 8601, UTC
    std::int64_t seed = 0, num_clients = 0;
};

/// Who holds what.
struct PartitionTable {
    Partition partition;                        ///< record indices of each client
    std::vector<std::string> categories;        ///< names
    std::vector<std::int64_t> client_category;  ///< records, clients x categories, row major
};

struct RunLog {
    RunFacts facts;
    std::vector<LifeRow> lives;
    std::vector<RoundRow> rounds;
    std::vector<ClientRow> clients;
    std::vector<EvaluationRow> evaluation;
    PartitionTable partition;

    /// Adds all attributes and tables; a checkpoint holds them too.
    void write(Hdf5Writer& writer) const;
    static RunLog read(const Hdf5Reader& reader);
    std::vector<std::byte> encode() const;  ///< run.h5
};

}  // namespace fedit
