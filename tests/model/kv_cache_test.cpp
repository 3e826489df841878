// tests/model/kv_cache_test.cpp: sequences fed in parts give the logits of the whole.
#include "fedit/model/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fedit/core/error.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

using Tokens = std::vector<std::int32_t>;

/// Adds tokens [first, last) of a sequence; every one of them is a target.
void append_part(PackedBatch& batch, const Tokens& tokens, std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
        batch.target_rows.push_back(batch.rows());
        batch.targets.push_back(0);
        batch.target_weight.push_back(0);
        batch.row_counter.push_back(batch.rows());
        batch.tokens.push_back(tokens[t]);
        batch.positions.push_back(static_cast<std::int32_t>(t));
    }
    batch.sequence_begin.push_back(batch.rows());
    batch.slot_begin = {0, batch.rows()};
}

/// A model's name and its config.json.
struct Case {
    std::string name, config;
};

class Cached : public testing::TestWithParam<Case> {
protected:
    Cached()
        : model_(write_tiny_model(fresh_folder("model"), GetParam().config)),
          layout_(
              make_lora_layout(model_.config(), {.r = 3, .target_modules = {"q_proj", "v_proj"}})),
          x_(random_adapter(layout_.size, 0.3, 5)),
          decoder_(model_.config(), model_.weights, layout_, *model_.backend) {}

    std::vector<float> whole(const Tokens& tokens) {
        PackedBatch batch;
        append_part(batch, tokens, 0, tokens.size());
        return decoder_.logits(batch, slots());
    }
    std::span<const AdapterSlot> slots() const { return {&slot_, 1}; }

    LoadedModel model_;
    Layout layout_;
    std::vector<float> x_;
    Decoder decoder_;
    AdapterSlot slot_{.x = x_.data()};
};

void expect_close(std::span<const float> got, std::span<const float> want) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-5) << i;
}

TEST_P(Cached, SequencesInPartsGiveTheLogitsOfTheWhole) {
    const std::vector<Tokens> sequences{random_tokens(17, 1), random_tokens(40, 2),
                                        random_tokens(9, 3)};
    const std::vector<std::vector<std::size_t>> parts{
        {0, 1, 2, 3, 17}, {0, 38, 38, 39, 40}, {0, 3, 7, 8, 9}};
    const std::vector<std::int64_t> capacity{17, 50, 9};
    KvCache cache(model_.config(), *model_.backend, decoder_.activation_dtype(), capacity);
    std::vector<std::vector<float>> got(3);
    const auto vocab = static_cast<std::size_t>(model_.config().vocab_size);
    for (std::size_t step = 0; step < 4; ++step) {
        PackedBatch batch;
        const std::vector<std::int64_t> which{2, 0,
                                              1};  // the cache's order need not be the batch's
        for (const std::int64_t i : which) {
            const auto s = static_cast<std::size_t>(i);
            append_part(batch, sequences[s], parts[s][step], parts[s][step + 1]);
        }
        const std::vector<float> logits = decoder_.extend(batch, slots(), cache, which);
        auto next = logits.begin();
        for (const std::int64_t i : which) {
            const auto s = static_cast<std::size_t>(i);
            const auto end =
                next + static_cast<std::ptrdiff_t>((parts[s][step + 1] - parts[s][step]) * vocab);
            got[s].insert(got[s].end(), next, end);
            next = end;
        }
    }
    for (std::size_t s = 0; s < sequences.size(); ++s) {
        expect_close(got[s], whole(sequences[s]));
        EXPECT_EQ(cache.length(static_cast<std::int64_t>(s)), std::ssize(sequences[s]));
    }
}

TEST_P(Cached, LogitsComeForTheTargetRowsOnly) {
    const Tokens tokens = random_tokens(12, 4);
    const std::vector<std::int64_t> capacity{12}, which{0};
    KvCache cache(model_.config(), *model_.backend, decoder_.activation_dtype(), capacity);
    PackedBatch batch;
    append_part(batch, tokens, 0, 12);
    batch.target_rows = {11}, batch.targets = {0}, batch.target_weight = {0};
    const std::vector<float> all = whole(tokens);
    const auto vocab = static_cast<std::size_t>(model_.config().vocab_size);
    expect_close(decoder_.extend(batch, slots(), cache, which), std::span(all).last(vocab));
}

TEST_P(Cached, SequencesWithoutRoomOrWithOtherPositionsAreRefused) {
    const Tokens tokens = random_tokens(8, 5);
    const std::vector<std::int64_t> capacity{5}, which{0}, absent{1}, two{0, 0};
    KvCache cache(model_.config(), *model_.backend, decoder_.activation_dtype(), capacity);
    const auto part = [&](std::size_t first, std::size_t last) {
        PackedBatch batch;
        append_part(batch, tokens, first, last);
        return batch;
    };
    EXPECT_THROW(decoder_.extend(part(0, 6), slots(), cache, which), ShapeError);
    EXPECT_THROW(decoder_.extend(part(1, 3), slots(), cache, which), ShapeError);
    EXPECT_THROW(decoder_.extend(part(0, 3), slots(), cache, absent), ShapeError);
    EXPECT_THROW(decoder_.extend(part(0, 3), slots(), cache, two), ShapeError);
    PackedBatch without_target = part(0, 3);
    without_target.target_rows = {}, without_target.targets = {}, without_target.target_weight = {};
    EXPECT_THROW(decoder_.extend(without_target, slots(), cache, which), ShapeError);
    EXPECT_EQ(cache.length(0), 0);
    decoder_.extend(part(0, 5), slots(), cache, which);
    EXPECT_THROW(decoder_.extend(part(5, 6), slots(), cache, which), ShapeError);
}

INSTANTIATE_TEST_SUITE_P(
    Models, Cached,
    testing::Values(Case{"llama", tiny_config(R"(, "attention_bias": true)")},
                    Case{"mistral", tiny_config(Architecture::mistral, R"(, "sliding_window": 5)")},
                    Case{"qwen3", tiny_config(Architecture::qwen3, R"(, "head_dim": 8)")}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace fedit::test
