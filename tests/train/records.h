// tests/train/records.h: encoded records made by hand or at random, or read from a fixture.
#pragma once

#include <string>
#include <vector>

#include "fedit/core/rng.h"
#include "fedit/io/safetensors.h"
#include "fedit/text/dataset.h"

namespace fedit::test {

/// Appends a record; labels are -1 where there is none.
inline void append_record(EncodedRecords& records, const std::vector<std::int32_t>& tokens,
                          const std::vector<std::int32_t>& labels) {
    std::int64_t targets = 0;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        records.tokens.push_back(tokens[t]);
        records.labels.push_back(labels[t]);
        if (t > 0 && labels[t] >= 0) ++targets;
    }
    records.begin.push_back(static_cast<std::int64_t>(records.tokens.size()));
    records.targets.push_back(targets);
    records.category.push_back(0);
    records.categories = {"any"};
}

/// Records of 4 to 12 random tokens below 50; the second half of each is labelled, but every fifth
/// record has no label.
inline EncodedRecords random_records(int count, std::uint64_t seed) {
    RandomStream stream({.seed = seed, .purpose = Purpose::synthetic_data});
    EncodedRecords records;
    for (int r = 0; r < count; ++r) {
        const std::size_t length = 4 + stream.below(9);
        std::vector<std::int32_t> tokens, labels;
        for (std::size_t t = 0; t < length; ++t) {
            tokens.push_back(static_cast<std::int32_t>(stream.below(50)));
            labels.push_back(r % 5 != 4 && t >= length / 2 ? tokens.back() : -1);
        }
        append_record(records, tokens, labels);
    }
    return records;
}

/// The sequences that a fixture stores as `prefix` + input_ids, labels (-100: none), cu_seqlens.
inline EncodedRecords fixture_records(const SafetensorsFile& file, const std::string& prefix) {
    const auto tokens = file.read_int32(prefix + "input_ids");
    const auto labels = file.read_int32(prefix + "labels");
    const auto begin = file.read_int32(prefix + "cu_seqlens");
    EncodedRecords records;
    for (std::size_t s = 0; s + 1 < begin.size(); ++s) {
        std::vector<std::int32_t> ids, targets;
        for (auto t = static_cast<std::size_t>(begin[s]);
             t < static_cast<std::size_t>(begin[s + 1]); ++t) {
            ids.push_back(tokens[t]);
            targets.push_back(labels[t] < 0 ? -1 : labels[t]);
        }
        append_record(records, ids, targets);
    }
    return records;
}

}  // namespace fedit::test
