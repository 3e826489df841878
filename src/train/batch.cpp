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

namespace {

/// Tokens of a record up to the one before its last label, which predicts it. All, if it has none.
std::size_t rows_that_matter(std::span<const std::int32_t> labels) {
    std::size_t before = labels.empty() ? 0 : labels.size() - 1;
    while (before > 0 && labels[before] < 0) --before;
    return before > 0 ? before : labels.size();
}

}  // namespace

void append_slot(PackedBatch& batch, const EncodedRecords& records,
                 std::span<const std::int64_t> which, std::int64_t first_row_counter,
                 std::int64_t batch_targets) {
    const float weight =
        batch_targets > 0 ? static_cast<float>(1.0 / static_cast<double>(batch_targets)) : 0.0F;
    for (const std::int64_t record : which) {
        const auto begin =
            static_cast<std::size_t>(records.begin[static_cast<std::size_t>(record)]);
        const auto length = static_cast<std::size_t>(records.length(record));
        const std::span<const std::int32_t> tokens =
            std::span(records.tokens).subspan(begin, length);
        const std::span<const std::int32_t> labels =
            std::span(records.labels).subspan(begin, length);
        const std::size_t rows = rows_that_matter(labels);
        for (std::size_t t = 0; t < rows; ++t) {
            batch.row_counter.push_back(first_row_counter + static_cast<std::int64_t>(t));
            batch.tokens.push_back(tokens[t]);
            batch.positions.push_back(static_cast<std::int32_t>(t));
            if (t + 1 == length || labels[t + 1] < 0) continue;
            batch.target_rows.push_back(batch.rows() - 1);
            batch.targets.push_back(labels[t + 1]);
            batch.target_weight.push_back(weight);
        }
        first_row_counter += static_cast<std::int64_t>(length);
        batch.sequence_begin.push_back(batch.rows());
        batch.sequence_length.push_back(static_cast<std::int64_t>(length));
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
