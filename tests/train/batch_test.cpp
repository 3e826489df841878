// tests/train/batch_test.cpp: the order of an epoch, and packing by hand.
#include "fedit/train/batch.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/train/records.h"

namespace fedit::test {
namespace {

TEST(EpochOrder, HoldsEachRecordWithATargetOnce) {
    const EncodedRecords records = random_records(20, 1);
    std::vector<std::int64_t> order = epoch_order(records, 3, 0, 0, 0);
    EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    std::vector<std::int64_t> want;
    for (std::int64_t r = 0; r < 20; ++r) {
        if (r % 5 != 4) want.push_back(r);
    }
    EXPECT_EQ(order, want);
}

TEST(EpochOrder, DependsOnSeedClientRoundAndEpochAlone) {
    const EncodedRecords records = random_records(20, 1);
    const auto order = epoch_order(records, 3, 4, 5, 6);
    EXPECT_EQ(order, epoch_order(records, 3, 4, 5, 6));
    EXPECT_NE(order, epoch_order(records, 2, 4, 5, 6));
    EXPECT_NE(order, epoch_order(records, 3, 1, 5, 6));
    EXPECT_NE(order, epoch_order(records, 3, 4, 1, 6));
    EXPECT_NE(order, epoch_order(records, 3, 4, 5, 1));
}

TEST(Pack, LaysSequencesEndToEndAndTargetsTheRowBeforeALabel) {
    EncodedRecords records;
    append_record(records, {1, 7, 8, 9}, {-1, -1, 8, 9});
    append_record(records, {1, 5}, {1, -1});  // a first label is nobody's target
    append_record(records, {1, 6, 2}, {1, 6, -1});
    append_record(records, {1, 4, 3, 2}, {-1, -1, 3, -1});
    const std::vector<std::int64_t> which{2, 0, 3};
    const PackedBatch batch = pack(records, which, 100, 4);

    // What follows the row that predicts the last label is left out, but counted.
    EXPECT_EQ(batch.tokens, (std::vector<std::int32_t>{1, 1, 7, 8, 1, 4}));
    EXPECT_EQ(batch.positions, (std::vector<std::int32_t>{0, 0, 1, 2, 0, 1}));
    EXPECT_EQ(batch.sequence_begin, (std::vector<std::int64_t>{0, 1, 4, 6}));
    EXPECT_EQ(batch.sequence_length, (std::vector<std::int64_t>{3, 4, 4}));
    EXPECT_EQ(batch.slot_begin, (std::vector<std::int64_t>{0, 6}));
    EXPECT_EQ(batch.row_counter, (std::vector<std::int64_t>{100, 103, 104, 105, 107, 108}));
    EXPECT_EQ(batch.target_rows, (std::vector<std::int64_t>{0, 2, 3, 5}));
    EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{6, 8, 9, 3}));
    EXPECT_EQ(batch.target_weight, (std::vector<float>{0.25F, 0.25F, 0.25F, 0.25F}));
}

TEST(Pack, ARecordWithoutATargetAddsRowsOnly) {
    EncodedRecords records;
    append_record(records, {1, 5}, {1, -1});
    const std::vector<std::int64_t> which{0};
    const PackedBatch batch = pack(records, which, 0, 1);
    EXPECT_EQ(batch.rows(), 2);
    EXPECT_TRUE(batch.targets.empty());
}

TEST(AppendSlot, EachClientKeepsItsCountersAndWeights) {
    EncodedRecords records;
    append_record(records, {1, 7, 8}, {-1, -1, 8});
    append_record(records, {1, 6}, {-1, 6});
    const std::vector<std::int64_t> first{0}, second{1, 0};
    PackedBatch batch;
    append_slot(batch, records, first, 40, 2);
    append_slot(batch, records, second, 7, 4);

    EXPECT_EQ(batch.tokens, (std::vector<std::int32_t>{1, 7, 1, 1, 7}));
    EXPECT_EQ(batch.positions, (std::vector<std::int32_t>{0, 1, 0, 0, 1}));
    EXPECT_EQ(batch.sequence_begin, (std::vector<std::int64_t>{0, 2, 3, 5}));
    EXPECT_EQ(batch.slot_begin, (std::vector<std::int64_t>{0, 2, 5}));
    EXPECT_EQ(batch.row_counter, (std::vector<std::int64_t>{40, 41, 7, 9, 10}));
    EXPECT_EQ(batch.target_rows, (std::vector<std::int64_t>{1, 2, 4}));
    EXPECT_EQ(batch.targets, (std::vector<std::int32_t>{8, 6, 8}));
    EXPECT_EQ(batch.target_weight, (std::vector<float>{0.5F, 0.25F, 0.25F}));
}

TEST(Pack, NothingGivesAnEmptyBatch) {
    const PackedBatch batch = pack(EncodedRecords{}, {}, 0, 1);
    EXPECT_EQ(batch.rows(), 0);
    EXPECT_EQ(batch.slot_begin, (std::vector<std::int64_t>{0, 0}));
}

}  // namespace
}  // namespace fedit::test
