// tests/model/decoder_test.cpp: gradients by finite differences, dropout, slots, and what a pass
// may not depend on.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "fedit/core/error.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

const std::vector<std::string> all{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                   "gate_proj", "up_proj", "down_proj"};

PackedBatch make_batch(std::uint64_t seed) {
    PackedBatch batch;
    append_sequence(batch, random_tokens(9, seed), 3);
    append_sequence(batch, random_tokens(1, seed + 1), 0);  // one token has nothing to predict
    append_sequence(batch, random_tokens(14, seed + 2), 6);
    return batch;
}

/// Two batches as the slots of one pass.
PackedBatch join(const PackedBatch& a, const PackedBatch& b) {
    PackedBatch out = a;
    const std::int64_t rows = a.rows();
    const auto append = [](auto& to, const auto& from, auto shift) {
        for (const auto value : from) to.push_back(value + shift);
    };
    append(out.tokens, b.tokens, 0);
    append(out.positions, b.positions, 0);
    append(out.row_counter, b.row_counter, std::int64_t{0});
    append(out.target_rows, b.target_rows, rows);
    append(out.targets, b.targets, 0);
    append(out.target_weight, b.target_weight, 0.0F);
    for (std::size_t i = 1; i < b.sequence_begin.size(); ++i) {
        out.sequence_begin.push_back(b.sequence_begin[i] + rows);
    }
    out.slot_begin = {0, rows, rows + b.rows()};
    return out;
}

/// A tiny model with adapters on some linear layers.
class DecoderTest : public testing::Test {
protected:
    explicit DecoderTest(
        const std::string& config = tiny_config(R"(, "attention_bias": true, "mlp_bias": true)"))
        : model_(write_tiny_model(fresh_folder("tiny"), config)) {}

    void adapt(std::vector<std::string> targets, int r = 3) {
        layout_ = make_lora_layout(
            model_.config(), {.r = r, .alpha = 0.7 * r, .target_modules = std::move(targets)});
        decoder_ =
            std::make_unique<Decoder>(model_.config(), model_.weights, layout_, *model_.backend);
        x_ = random_adapter(layout_.size, 0.2, 11);
    }

    /// The weighted loss of a training pass, and its gradient.
    double train(const PackedBatch& batch, const std::vector<float>& x,
                 std::vector<float>& gradient, double dropout = 0, std::uint64_t key = 5) {
        gradient.assign(x.size(), 0.0F);
        const AdapterSlot slot{
            .x = x.data(), .gradient = gradient.data(), .dropout = dropout, .dropout_key = key};
        std::vector<double> loss(batch.targets.size());
        decoder_->train(batch, {&slot, 1}, loss);
        return weighted(batch, loss);
    }

    /// Along each span's own gradient the loss must change at the rate of the gradient's norm.
    void expect_gradient_by_differences(double dropout) {
        const PackedBatch batch = make_batch(1);
        std::vector<float> gradient, unused;
        train(batch, x_, gradient, dropout);
        for (const Module& module : layout_.modules) {
            for (const Span& span : module.spans) {
                double norm = 0;
                for (std::int64_t i = 0; i < span.size(); ++i) {
                    const double g = gradient[static_cast<std::size_t>(span.offset + i)];
                    norm += g * g;
                }
                norm = std::sqrt(norm);
                ASSERT_GT(norm, 0) << module.name;
                const auto loss_at = [&](double distance) {
                    std::vector<float> moved = x_;
                    for (std::int64_t i = 0; i < span.size(); ++i) {
                        const auto at = static_cast<std::size_t>(span.offset + i);
                        moved[at] += static_cast<float>(distance * gradient[at] / norm);
                    }
                    return train(batch, moved, unused, dropout);
                };
                // Fourth order: at this step the formula's error and fp32's are both below 1e-3.
                const double h = 0.02;
                const double slope =
                    (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) /
                    (12 * h);
                EXPECT_NEAR(slope, norm, 2e-3 * norm + 2e-4) << module.name;
            }
        }
    }

    LoadedModel model_;
    Layout layout_;
    std::unique_ptr<Decoder> decoder_;
    std::vector<float> x_;
};

TEST_F(DecoderTest, GradientAgreesWithFiniteDifferences) {
    adapt(all);
    expect_gradient_by_differences(0);
}

TEST_F(DecoderTest, GradientUnderADropoutMaskAgreesWithFiniteDifferencesUnderTheSameMask) {
    adapt(all);
    expect_gradient_by_differences(0.3);
}

TEST_F(DecoderTest, DropoutChangesWithItsKeyAndIsOffInEvaluation) {
    adapt(all);
    const PackedBatch batch = make_batch(1);
    std::vector<float> gradient;
    const double none = train(batch, x_, gradient);
    const double one = train(batch, x_, gradient, 0.3, 1);
    EXPECT_EQ(one, train(batch, x_, gradient, 0.3, 1));
    EXPECT_NE(one, train(batch, x_, gradient, 0.3, 2));
    EXPECT_NE(one, none);

    const AdapterSlot slot{.x = x_.data(), .dropout = 0.3, .dropout_key = 1};
    std::vector<double> loss(batch.targets.size());
    decoder_->evaluate(batch, {&slot, 1}, loss);
    EXPECT_NEAR(weighted(batch, loss), none, 1e-6 * none);
}

TEST_F(DecoderTest, TwoSlotsInOnePassEqualTheTwoAlone) {
    adapt(all);
    const PackedBatch first = make_batch(1), second = make_batch(20);
    const std::vector<float> other = random_adapter(layout_.size, 0.3, 12);
    std::vector<float> alone_a, alone_b;
    const double loss_a = train(first, x_, alone_a, 0.2, 8);
    const double loss_b = train(second, other, alone_b, 0.2, 9);

    std::vector<float> a(x_.size(), 0.0F), b(x_.size(), 0.0F);
    const std::vector<AdapterSlot> slots{{x_.data(), a.data(), 0.2, 8},
                                         {other.data(), b.data(), 0.2, 9}};
    const PackedBatch both = join(first, second);
    std::vector<double> loss(both.targets.size());
    decoder_->train(both, slots, loss);

    EXPECT_NEAR(weighted(both, loss), loss_a + loss_b, 1e-6 * (loss_a + loss_b));
    // Products over more rows round elsewhere: fp32's 6e-8 through two layers.
    EXPECT_LE(relative_distance(a, alone_a), 1e-5);
    EXPECT_LE(relative_distance(b, alone_b), 1e-5);
}

TEST_F(DecoderTest, GradientsAddUpOverPasses) {
    adapt(all);
    const PackedBatch batch = make_batch(1);
    std::vector<float> once;
    train(batch, x_, once);
    std::vector<float> twice(x_.size(), 0.0F);
    const AdapterSlot slot{.x = x_.data(), .gradient = twice.data()};
    std::vector<double> loss(batch.targets.size());
    decoder_->train(batch, {&slot, 1}, loss);
    decoder_->train(batch, {&slot, 1}, loss);
    for (float& value : once) value *= 2;
    EXPECT_LE(relative_distance(twice, once), 1e-6);
}

TEST_F(DecoderTest, BitsDoNotDependOnEarlierPasses) {
    adapt(all);
    const PackedBatch batch = make_batch(1);
    std::vector<float> fresh, later;
    const double first = train(batch, x_, fresh, 0.1);
    PackedBatch larger = join(make_batch(30), make_batch(40));
    larger.slot_begin = {0, larger.rows()};
    train(larger, random_adapter(layout_.size, 3, 13), later, 0.5, 77);
    EXPECT_EQ(train(batch, x_, later, 0.1), first);
    EXPECT_EQ(later, fresh);
}

TEST_F(DecoderTest, RowsWithoutATargetDoNotChangeTheLossOfTheOthers) {
    adapt(all);
    PackedBatch batch = make_batch(1);
    const AdapterSlot slot{.x = x_.data()};
    std::vector<double> every(batch.targets.size());
    decoder_->evaluate(batch, {&slot, 1}, every);
    batch.target_rows = {batch.target_rows[1], batch.target_rows[6]};
    batch.targets = {batch.targets[1], batch.targets[6]};
    batch.target_weight.resize(2);
    std::vector<double> some(2);
    decoder_->evaluate(batch, {&slot, 1}, some);
    EXPECT_NEAR(some[0], every[1], 1e-5);
    EXPECT_NEAR(some[1], every[6], 1e-5);
}

TEST_F(DecoderTest, ABatchWithoutTargetsLeavesTheGradientAsItWas) {
    adapt(all);
    PackedBatch batch = make_batch(1);
    batch.target_rows.clear();
    batch.targets.clear();
    batch.target_weight.clear();
    std::vector<float> gradient;
    EXPECT_EQ(train(batch, x_, gradient), 0);
    EXPECT_EQ(gradient, std::vector<float>(x_.size(), 0.0F));
}

TEST_F(DecoderTest, RefusesABatchWhosePartsDiffer) {
    adapt(all);
    std::vector<float> gradient;
    PackedBatch short_positions = make_batch(1);
    short_positions.positions.pop_back();
    EXPECT_THROW(train(short_positions, x_, gradient), ShapeError);
    PackedBatch unsorted = make_batch(1);
    std::swap(unsorted.target_rows[0], unsorted.target_rows[1]);
    EXPECT_THROW(train(unsorted, x_, gradient), ShapeError);
    PackedBatch two_slots = join(make_batch(1), make_batch(2));
    EXPECT_THROW(train(two_slots, x_, gradient), ShapeError);
}

TEST_F(DecoderTest, RefusesToTrainWithoutAdapters) {
    const Layout none;
    Decoder decoder(model_.config(), model_.weights, none, *model_.backend);
    const PackedBatch batch = make_batch(1);
    std::vector<double> loss(batch.targets.size());
    EXPECT_THROW(decoder.train(batch, {}, loss), ShapeError);
}

TEST_F(DecoderTest, ReservedMemoryIsEnoughAndEvaluationNeedsLess) {
    adapt(all);
    const PassSize size{24, 12};
    EXPECT_LT(decoder_->activation_bytes(size, Pass::evaluate),
              decoder_->activation_bytes(size, Pass::train));
    EXPECT_LT(decoder_->activation_bytes({12, 12}, Pass::train),
              decoder_->activation_bytes(size, Pass::train));
}

/// Backward stops at the lowest adapter: wherever that is, the gradient must be the same.
class LowestAdapter : public DecoderTest, public testing::WithParamInterface<const char*> {};

TEST_P(LowestAdapter, GradientAgreesWithFiniteDifferences) {
    adapt({GetParam()});
    expect_gradient_by_differences(0.1);
}

INSTANTIATE_TEST_SUITE_P(Places, LowestAdapter,
                         testing::Values("layers.0.self_attn.v_proj", "layers.0.self_attn.o_proj",
                                         "layers.0.mlp.up_proj", "layers.0.mlp.down_proj",
                                         "layers.1.self_attn.q_proj", "layers.1.self_attn.o_proj",
                                         "layers.1.mlp.gate_proj", "layers.1.mlp.down_proj"));

struct Kin {
    const char* name;
    std::string config;
};
void PrintTo(const Kin& kin, std::ostream* out) {
    *out << kin.name;
}

/// What the other architectures and rotary types add to a layer.
class Architectures : public DecoderTest, public testing::WithParamInterface<Kin> {
protected:
    Architectures() : DecoderTest(GetParam().config) {}
};

TEST_P(Architectures, GradientAgreesWithFiniteDifferences) {
    adapt(all);
    expect_gradient_by_differences(0);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, Architectures,
    testing::Values(
        Kin{"Mistral", tiny_config(Architecture::mistral, R"(, "sliding_window": 4)")},
        Kin{"Qwen2", tiny_config(Architecture::qwen2, R"(, "use_sliding_window": true,
                                    "sliding_window": 3, "max_window_layers": 1)")},
        Kin{"Qwen3",
            tiny_config(Architecture::qwen3, R"(, "head_dim": 10, "attention_bias": true)")},
        Kin{"Yarn", tiny_config(R"(, "rope_scaling": {"rope_type": "yarn", "factor": 4,
                                   "original_max_position_embeddings": 16})")},
        // Of the batch's sequences of 9, 1 and 14 tokens the last has frequencies of its own.
        Kin{"Dynamic",
            replaced(tiny_config(R"(, "rope_scaling": {"rope_type": "dynamic",
                                               "factor": 3})"),
                     R"("max_position_embeddings": 64)", R"("max_position_embeddings": 12)")}),
    [](const testing::TestParamInfo<Kin>& kin) { return std::string(kin.param.name); });

}  // namespace
}  // namespace fedit::test
