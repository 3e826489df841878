// train/batch.h: a client's epoch order, its batches, and their packing without padding.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fedit/model/decoder.h"
#include "fedit/text/dataset.h"

namespace fedit {

/// The records of one client that train (at least one target), in the order of an epoch: shuffled
/// by StreamKey{seed, batch_order, client, round, epoch}.
std::vector<std::int64_t> epoch_order(const EncodedRecords& records, std::uint64_t seed, int client,
                                      int round, int epoch);

/// Appends `which` records of a client's batch as one more slot, in that order.
/// `first_row_counter`: tokens of that client's batch packed before. weight = 1 / batch_targets.
/// Only the rows that predict a label are targets, and a record's rows end with the last of them:
/// no row sees what comes after it, so those would change nothing.
void append_slot(PackedBatch& batch, const EncodedRecords& records,
                 std::span<const std::int64_t> which, std::int64_t first_row_counter,
                 std::int64_t batch_targets);

/// The same as a batch of its own.
PackedBatch pack(const EncodedRecords& records, std::span<const std::int64_t> which,
                 std::int64_t first_row_counter, std::int64_t batch_targets);

}  // namespace fedit
