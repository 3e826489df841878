// tests/train/evaluate_test.cpp: losses by record, however the records are split.
#include <gtest/gtest.h>

#include <algorithm>

#include "fedit/train/batch.h"
#include "tests/train/records.h"
#include "tests/train/tiny_training.h"

namespace fedit::test {
namespace {

class EvaluateTest : public testing::Test {
protected:
    EvaluationSums evaluate(std::int64_t first, std::int64_t last, int batch_size = 4) {
        return evaluate_records(tiny_.decoder, *tiny_.model.backend, records_, first, last, x_,
                                batch_size);
    }
    TinyTraining tiny_{"evaluate"};
    EncodedRecords records_ = random_records(21, 6);
    std::vector<float> x_ = random_adapter(tiny_.layout.size, 0.2, 3);
};

TEST_F(EvaluateTest, PartsSplitAtBatchBoundariesHaveTheBitsOfTheWhole) {
    const EvaluationSums whole = evaluate(0, 21);
    EvaluationSums parts = evaluate(0, 8);
    for (const auto& [first, last] : {std::pair{8, 12}, std::pair{12, 21}}) {
        const EvaluationSums part = evaluate(first, last);
        parts.loss.insert(parts.loss.end(), part.loss.begin(), part.loss.end());
        parts.targets.insert(parts.targets.end(), part.targets.begin(), part.targets.end());
        parts.hits.insert(parts.hits.end(), part.hits.begin(), part.hits.end());
    }
    EXPECT_EQ(parts.loss, whole.loss);
    EXPECT_EQ(parts.targets, whole.targets);
    EXPECT_EQ(parts.hits, whole.hits);
    EXPECT_EQ(whole.targets, records_.targets);
}

TEST_F(EvaluateTest, ATargetWithTheLargestLogitIsAHit) {
    // Teach some records to be right: their targets become what the model says.
    const AdapterSlot slot{.x = x_.data()};
    std::vector<std::int64_t> want(21, 0);
    for (std::int64_t r = 0; r < 21; ++r) {
        const PackedBatch batch = pack(records_, {&r, 1}, 0, 1);
        const std::vector<float> logits = tiny_.decoder.logits(batch, {&slot, 1});
        for (std::size_t i = 0; i < batch.target_rows.size(); ++i) {
            const auto row = logits.begin() + batch.target_rows[i] * 50;
            const auto best = static_cast<std::int32_t>(std::max_element(row, row + 50) - row);
            if (r % 3 == 0) {
                records_.labels[static_cast<std::size_t>(
                    records_.begin[static_cast<std::size_t>(r)] + batch.target_rows[i] + 1)] = best;
            }
            want[static_cast<std::size_t>(r)] += r % 3 == 0 || best == batch.targets[i] ? 1 : 0;
        }
    }
    EXPECT_EQ(evaluate(0, 21).hits, want);
}

/// RoPE of type dynamic looks at the tokens that have no row too.
TEST(EvaluateRows, WhatFollowsTheLastPredictionChangesNothing) {
    const std::string config =
        replaced(tiny_config(R"(, "rope_scaling": {"rope_type": "dynamic", "factor": 2})"),
                 R"("max_position_embeddings": 64)", R"("max_position_embeddings": 8)");
    const LoadedModel model(write_tiny_model(fresh_folder("dynamic"), config));
    const Layout none;
    Decoder decoder(model.config(), model.weights, none, *model.backend);
    EncodedRecords records;
    const std::vector<std::int32_t> tokens = random_tokens(13, 5);
    std::vector<std::int32_t> labels = tokens;
    std::fill(labels.begin(), labels.begin() + 4, -1);
    std::fill(labels.begin() + 9, labels.end(), -1);
    append_record(records, tokens, labels);
    const std::int64_t record = 0;
    const PackedBatch cut = pack(records, {&record, 1}, 0, 1);
    EXPECT_EQ(cut.rows(), 8);
    PackedBatch whole = cut;
    whole.tokens = tokens;
    for (std::int32_t t = 8; t < 13; ++t) {
        whole.positions.push_back(t);
        whole.row_counter.push_back(t);
    }
    whole.sequence_begin.back() = whole.slot_begin.back() = 13;
    whole.sequence_length.clear();
    std::vector<double> of_cut(cut.targets.size()), of_whole(cut.targets.size());
    decoder.evaluate(cut, {}, of_cut);
    decoder.evaluate(whole, {}, of_whole);
    EXPECT_EQ(of_cut.size(), 5U);
    EXPECT_EQ(of_cut, of_whole);
}

TEST_F(EvaluateTest, EachRecordHasItsOwnLossWhoeverSharesItsBatch) {
    const EvaluationSums together = evaluate(0, 21, 21), alone = evaluate(0, 21, 1);
    for (std::size_t r = 0; r < together.loss.size(); ++r) {
        if (records_.targets[r] == 0) {
            EXPECT_EQ(together.loss[r], 0) << r;
            continue;
        }
        EXPECT_GT(together.loss[r], 0) << r;
        EXPECT_NEAR(together.loss[r], alone.loss[r], 1e-5 * alone.loss[r]) << r;
    }
}

TEST_F(EvaluateTest, WithoutAnAdapterTheBaseAloneIsEvaluated) {
    const auto base = evaluate_records(tiny_.decoder, *tiny_.model.backend, records_, 0, 21, {}, 4);
    const auto fresh = evaluate_records(tiny_.decoder, *tiny_.model.backend, records_, 0, 21,
                                        initial_adapter(tiny_.layout, 1), 4);
    EXPECT_EQ(base.loss, fresh.loss);  // a fresh adapter's B is zero
    EXPECT_NE(base.loss, evaluate(0, 21).loss);
}

TEST_F(EvaluateTest, NoRecordsGiveNoSums) {
    const EvaluationSums none = evaluate(5, 5);
    EXPECT_TRUE(none.loss.empty());
    EXPECT_TRUE(none.targets.empty());
}

}  // namespace
}  // namespace fedit::test
