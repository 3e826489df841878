// train/batch.cpp: orders a client's records and packs them without padding.
#include "fedit/train/batch.h"

#include "fedit/core/rng.h"

namespace fedit {

std::vector<std::int64_t> epoch_order(const EncodedRecords& records, std::uint64_t seed, int client,
                                      int round, int epoch) {
    std::vector<std::int64_t> order;
    for (std::int64_t record = 0; record < records.size(); ++record) {
        if (records.targets[static_cast<std::size_t>(record)] > 0) order.push_back(record);
    }
    RandomStream stream({.seed = seed,
                         .purpose = Purpose::batch_order,
                         .client = static_cast<std::uint32_t>(client),
                         .round = static_cast<std::uint32_t>(round),
                         .step = static_cast<std::uint32_t>(epoch)});
    stream.shuffle(order);
    return order;
}

void append_slot(PackedBatch& batch, const EncodedRecords& records,
                 std::span<const std::int64_t> which, std::int64_t first_row_counter,
                 std::int64_t batch_targets) {
    const std::int64_t first_row = batch.rows();
    const float weight =
        batch_targets > 0 ? static_cast<float>(1.0 / static_cast<double>(batch_targets)) : 0.0F;
    for (const std::int64_t record : which) {
        const std::int64_t begin = records.begin[static_cast<std::size_t>(record)];
        const std::int64_t length = records.length(record);
        for (std::int64_t t = 0; t < length; ++t) {
            const auto at = static_cast<std::size_t>(begin + t);
            if (t > 0 && records.labels[at] >= 0) {  // the row before predicts this token
                batch.target_rows.push_back(batch.rows() - 1);
                batch.targets.push_back(records.labels[at]);
                batch.target_weight.push_back(weight);
            }
            batch.row_counter.push_back(first_row_counter + batch.rows() - first_row);
            batch.tokens.push_back(records.tokens[at]);
            batch.positions.push_back(static_cast<std::int32_t>(t));
        }
        batch.sequence_begin.push_back(batch.rows());
    }
    batch.slot_begin.push_back(batch.rows());
}

PackedBatch pack(const EncodedRecords& records, std::span<const std::int64_t> which,
                 std::int64_t first_row_counter, std::int64_t batch_targets) {
    PackedBatch batch;
    append_slot(batch, records, which, first_row_counter, batch_targets);
    return batch;
}

}  // namespace fedit
