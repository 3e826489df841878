// train/evaluate.cpp: losses and hits of records, in fixed batches.
#include <algorithm>

#include "fedit/train/batch.h"
#include "fedit/train/local_trainer.h"

namespace fedit {

namespace {

/// Calls visit(which) for each batch: the records with a target of one block.
template <class Visit>
void for_each_batch(const EncodedRecords& records, std::int64_t first, std::int64_t last,
                    int batch_size, const Visit& visit) {
    for (std::int64_t begin = first; begin < last;) {
        const std::int64_t end = std::min(last, (begin / batch_size + 1) * batch_size);
        std::vector<std::int64_t> which;
        for (std::int64_t record = begin; record < end; ++record) {
            if (records.targets[static_cast<std::size_t>(record)] > 0) which.push_back(record);
        }
        visit(which);
        begin = end;
    }
}

/// Adds each target's loss and hit to the record whose sequence holds its row.
void add_by_sequence(const PackedBatch& batch, std::span<const std::int64_t> which,
                     std::int64_t first, std::span<const double> loss,
                     std::span<const std::int32_t> best, EvaluationSums& sums) {
    std::size_t sequence = 0;
    for (std::size_t i = 0; i < loss.size(); ++i) {
        while (batch.target_rows[i] >= batch.sequence_begin[sequence + 1]) ++sequence;
        const auto record = static_cast<std::size_t>(which[sequence] - first);
        sums.loss[record] += loss[i];
        sums.hits[record] += best[i] == batch.targets[i] ? 1 : 0;
    }
}

}  // namespace

PassSize largest_evaluation_pass(const EncodedRecords& records, std::int64_t first,
                                 std::int64_t last, int batch_size) {
    PassSize largest;
    for_each_batch(records, first, last, batch_size, [&](const std::vector<std::int64_t>& which) {
        PassSize size;
        for (const std::int64_t record : which) {
            size.rows += records.length(record);
            size.target_rows += records.targets[static_cast<std::size_t>(record)];
        }
        largest.rows = std::max(largest.rows, size.rows);
        largest.target_rows = std::max(largest.target_rows, size.target_rows);
    });
    return largest;
}

EvaluationSums evaluate_records(Decoder& decoder, Backend& backend, const EncodedRecords& records,
                                std::int64_t first, std::int64_t last, std::span<const float> x,
                                int batch_size) {
    EvaluationSums sums;
    sums.loss.assign(static_cast<std::size_t>(last - first), 0.0);
    sums.hits.assign(sums.loss.size(), 0);
    sums.targets.assign(records.targets.begin() + first, records.targets.begin() + last);

    DeviceBuffer adapter;
    std::vector<AdapterSlot> slots;
    if (!x.empty()) {
        adapter = DeviceBuffer(backend, x.size_bytes());
        backend.upload(adapter.data(), std::as_bytes(x));
        slots.push_back({.x = adapter.floats()});
        decoder.load(adapter.floats());
    }
    // At once: a batch that is larger than all before would move the activations.
    decoder.reserve(largest_evaluation_pass(records, first, last, batch_size), Pass::evaluate);
    std::vector<double> loss;
    std::vector<std::int32_t> best;
    for_each_batch(records, first, last, batch_size, [&](const std::vector<std::int64_t>& which) {
        const PackedBatch batch = pack(records, which, 0, 1);
        loss.resize(batch.targets.size());
        best.resize(batch.targets.size());
        decoder.evaluate(batch, slots, loss, best);
        add_by_sequence(batch, which, first, loss, best, sums);
    });
    return sums;
}

}  // namespace fedit
