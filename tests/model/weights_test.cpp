// tests/model/weights_test.cpp: the block of frozen weights, wherever it is mapped.
#include "fedit/model/weights.h"

#include <gtest/gtest.h>

#include <cstring>

#include "fedit/core/error.h"
#include "tests/model/loaded_model.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

class WeightsTest : public testing::Test {
protected:
    WeightsTest()
        : model_(write_tiny_model(fresh_folder("tiny"), tiny_config(R"(, "mlp_bias": true)"))) {}
    LoadedModel model_;
};

TEST_F(WeightsTest, ViewsPointIntoTheBlockAlignedForVectors) {
    const Weights& w = model_.weights;
    ASSERT_EQ(w.layers.size(), 2U);
    EXPECT_EQ(w.layers[0].qkv.weight.out, 24 + 2 * 12);
    EXPECT_EQ(w.layers[0].qkv.bias, nullptr);
    EXPECT_EQ(w.layers[0].gate_up.weight.out, 80);
    EXPECT_NE(w.layers[0].gate_up.bias, nullptr);
    EXPECT_EQ(w.head.out, 50);
    for (const void* piece :
         {static_cast<const void*>(w.layers[1].down.weight.data),
          static_cast<const void*>(w.layers[1].down.bias), static_cast<const void*>(w.final_norm),
          static_cast<const void*>(w.head.data)}) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(piece) % 64, 0U);
        EXPECT_GE(piece, model_.memory.data());
        EXPECT_LT(piece, model_.memory.data() + model_.plan.bytes());
    }
}

TEST_F(WeightsTest, ACopyAtAnotherAddressGivesTheSameLogits) {
    DeviceBuffer elsewhere(*model_.backend, model_.plan.bytes());
    std::memcpy(elsewhere.data(), model_.memory.data(), model_.plan.bytes());
    const Weights moved = model_.plan.view({elsewhere.data(), elsewhere.bytes()});
    PackedBatch batch;
    append_sequence(batch, random_tokens(10, 3), 2);
    const Layout none;
    Decoder here(model_.config(), model_.weights, none, *model_.backend);
    Decoder there(model_.config(), moved, none, *model_.backend);
    EXPECT_EQ(here.logits(batch, {}), there.logits(batch, {}));
}

TEST_F(WeightsTest, RefusesABlockThatIsTooShortOrMisaligned) {
    const std::span<const std::byte> all(model_.memory.data(), model_.memory.bytes());
    EXPECT_THROW(model_.plan.view(all.first(all.size() - 1)), ShapeError);
    DeviceBuffer longer(*model_.backend, all.size() + 64);
    EXPECT_THROW(model_.plan.view({longer.data() + 4, all.size()}), ShapeError);
}

}  // namespace
}  // namespace fedit::test
