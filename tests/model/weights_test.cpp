// tests/model/weights_test.cpp: the block of frozen weights, wherever it is mapped.
#include "fedit/model/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "tests/model/expect_fault.h"
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

/// The values that bf16 holds, stored in that type or in fp32.
std::filesystem::path write_rounded(const std::filesystem::path& folder, StoredType type) {
    const SafetensorsFile file(folder / "model.safetensors");
    std::vector<std::vector<std::byte>> memory;
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, stored] : file.tensors()) {
        std::vector<std::byte>& bytes = memory.emplace_back();
        for (const float value : file.read_floats(name)) {
            const std::uint16_t bits = float_to_bf16(value);
            const float rounded = bf16_to_float(bits);
            const auto one = type == StoredType::bf16 ? std::as_bytes(std::span(&bits, 1))
                                                      : std::as_bytes(std::span(&rounded, 1));
            bytes.insert(bytes.end(), one.begin(), one.end());
        }
        tensors.push_back({name, type, stored.shape, {}});
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i].bytes = memory[i];
    AtomicFile().write(folder / "model.safetensors", encode_safetensors(tensors));
    return folder;
}

/// The file's tensors with infinities in two of them.
std::vector<std::byte> encode_bad(const SafetensorsFile& file) {
    std::map<std::string, std::vector<std::byte>> memory;
    std::vector<TensorToWrite> tensors;
    for (const auto& [name, stored] : file.tensors()) {
        const auto bytes = file.bytes(name);
        memory[name] = {bytes.begin(), bytes.end()};
        tensors.push_back({name, stored.type, stored.shape, memory[name]});
    }
    const std::uint16_t infinity = 0x7f80;
    std::memcpy(memory["model.layers.0.self_attn.k_proj.weight"].data() + 2 * 7, &infinity, 2);
    std::memcpy(memory["model.layers.0.mlp.down_proj.weight"].data(), &infinity, 2);
    return encode_safetensors(tensors);
}

TEST(Weights, StoredBf16GivesTheBitsOfItsValuesAsFloats) {
    const std::string config = tiny_config(R"(, "attention_bias": true)");
    const LoadedModel narrow(
        write_rounded(write_tiny_model(fresh_folder("narrow"), config), StoredType::bf16));
    const LoadedModel wide(
        write_rounded(write_tiny_model(fresh_folder("wide"), config), StoredType::f32));
    ASSERT_EQ(narrow.plan.bytes(), wide.plan.bytes());
    PackedBatch batch;
    append_sequence(batch, random_tokens(10, 3), 2);
    const Layout none;
    const auto logits = [&](const LoadedModel& model) {
        return Decoder(model.config(), model.weights, none, *model.backend).logits(batch, {});
    };
    EXPECT_EQ(logits(narrow), logits(wide));
    for (std::size_t l = 0; l < narrow.weights.layers.size(); ++l) {
        const LayerWeights &a = narrow.weights.layers[l], &b = wide.weights.layers[l];
        EXPECT_EQ(std::memcmp(a.qkv.bias, b.qkv.bias, 48 * sizeof(float)), 0);
        EXPECT_EQ(std::memcmp(a.mlp_norm, b.mlp_norm, 24 * sizeof(float)), 0);
    }
    EXPECT_EQ(std::memcmp(narrow.weights.embedding.data, wide.weights.embedding.data, 1200 * 4), 0);
}

TEST_F(WeightsTest, AnyNumberOfThreadsReadsTheSameAndTellsHowFarItIs) {
    DeviceBuffer again(*model_.backend, model_.plan.bytes());
    std::vector<std::int64_t> told;
    model_.plan.fill({again.data(), again.bytes()}, model_.folder, *model_.backend, 3,
                     [&](std::int64_t done) { told.push_back(done); });
    EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
    EXPECT_EQ(told.back(), model_.folder.bytes());
    PackedBatch batch;
    append_sequence(batch, random_tokens(10, 3), 2);
    const Layout none;
    Decoder one(model_.config(), model_.weights, none, *model_.backend);
    Decoder three(model_.config(), model_.plan.view({again.data(), again.bytes()}), none,
                  *model_.backend);
    EXPECT_EQ(one.logits(batch, {}), three.logits(batch, {}));
}

TEST(Weights, TheFirstWeightThatIsNotFiniteIsNamed) {
    const std::filesystem::path folder =
        write_rounded(write_tiny_model(fresh_folder("bad")), StoredType::bf16);
    const SafetensorsFile file(folder / "model.safetensors");
    std::vector<std::byte> whole = encode_bad(file);
    AtomicFile().write(folder / "model.safetensors", std::span<const std::byte>(whole));
    expect_refused([&] { LoadedModel model(folder, 2); },
                   {"a weight is inf", "model.layers.0.self_attn.k_proj.weight", "element 7"});
}

TEST_F(WeightsTest, RefusesABlockThatIsTooShortOrMisaligned) {
    const std::span<const std::byte> all(model_.memory.data(), model_.memory.bytes());
    EXPECT_THROW(model_.plan.view(all.first(all.size() - 1)), ShapeError);
    DeviceBuffer longer(*model_.backend, all.size() + 64);
    EXPECT_THROW(model_.plan.view({longer.data() + 4, all.size()}), ShapeError);
}

}  // namespace
}  // namespace fedit::test
