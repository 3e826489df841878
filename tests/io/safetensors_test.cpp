// tests/io/safetensors_test.cpp: what is written reads back; the layout that the format asks for.
#include "fedit/io/safetensors.h"

#include <cstring>
#include <limits>

#include "fedit/io/json.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

template <class Value>
std::span<const std::byte> bytes_of(const std::vector<Value>& values) {
    return std::as_bytes(std::span(values));
}

/// Writes a file that mixes types, sizes and an empty tensor.
class SafetensorsRoundTrip : public testing::Test {
protected:
    void SetUp() override {
        path = test::fresh_folder("round_trip") / "model.safetensors";
        const std::vector<TensorToWrite> tensors{
            {.name = "norm", .type = StoredType::bf16, .shape = {3}, .bytes = bytes_of(bf16)},
            {.name = "b.weight", .type = StoredType::f32, .shape = {2, 3}, .bytes = bytes_of(f32)},
            {.name = "half", .type = StoredType::f16, .shape = {2, 1}, .bytes = bytes_of(f16)},
            {.name = "a.ids", .type = StoredType::i32, .shape = {2}, .bytes = bytes_of(i32)},
            {.name = "long", .type = StoredType::i64, .shape = {}, .bytes = bytes_of(i64)},
            {.name = "empty", .type = StoredType::f32, .shape = {4, 0, 2}, .bytes = {}},
            {.name = "flag", .type = StoredType::boolean, .shape = {1}, .bytes = bytes_of(flag)}};
        encoded = encode_safetensors(tensors, {{"format", "pt"}});
        AtomicFile().write(path, encoded);
    }

    std::vector<float> f32{1.5F, -0.0F, 3.25e-40F, std::numeric_limits<float>::infinity(), 5, 6};
    std::vector<std::uint16_t> bf16{0x3F80, 0xC000, 0x7FC0};
    std::vector<std::uint16_t> f16{0x3C00, 0x0001};
    std::vector<std::int32_t> i32{-100, 7};
    std::vector<std::int64_t> i64{-1};
    std::vector<std::uint8_t> flag{1};
    fs::path path;
    std::vector<std::byte> encoded;
};

TEST_F(SafetensorsRoundTrip, KeepsNamesShapesTypesAndMetadata) {
    const SafetensorsFile file(path);
    EXPECT_EQ(file.path(), path);
    EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
    EXPECT_EQ(file.tensors().size(), 7U);
    EXPECT_TRUE(file.has("norm"));
    EXPECT_FALSE(file.has("norms"));
    EXPECT_EQ(file.tensor("b.weight").shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(file.tensor("b.weight").type, StoredType::f32);
    EXPECT_EQ(file.tensor("b.weight").elements(), 6);
    EXPECT_EQ(file.tensor("long").elements(), 1);
    EXPECT_EQ(file.tensor("empty").elements(), 0);
    EXPECT_EQ(file.bytes("flag").size(), 1U);
}

TEST_F(SafetensorsRoundTrip, ReadsFloats) {
    const SafetensorsFile file(path);
    const std::vector<float> read = file.read_floats("b.weight");
    ASSERT_EQ(read.size(), f32.size());
    EXPECT_EQ(std::memcmp(read.data(), f32.data(), 4 * read.size()), 0);
    EXPECT_EQ(file.read_floats("half"), (std::vector<float>{1.0F, 0x1p-24F}));
    const std::vector<float> norm = file.read_floats("norm");
    EXPECT_EQ(norm[0], 1.0F);
    EXPECT_EQ(norm[1], -2.0F);
    EXPECT_TRUE(norm[2] != norm[2]);
    EXPECT_EQ(file.read_floats("empty"), std::vector<float>{});
}

TEST_F(SafetensorsRoundTrip, ReadsIntegers) {
    const SafetensorsFile file(path);
    EXPECT_EQ(file.read_int32("a.ids"), i32);
    EXPECT_EQ(file.read_int32("long"), std::vector<std::int32_t>{-1});
}

TEST_F(SafetensorsRoundTrip, OrdersByAlignmentThenNameAndPadsTheHeader) {
    std::uint64_t length = 0;
    std::memcpy(&length, encoded.data(), 8);
    EXPECT_EQ(length % 8, 0U);
    const std::string text(reinterpret_cast<const char*>(encoded.data()) + 8, length);
    EXPECT_EQ(Json::parse(text, "header").keys(),
              (std::vector<std::string>{"__metadata__", "long", "a.ids", "b.weight", "empty",
                                        "half", "norm", "flag"}));
    EXPECT_EQ(SafetensorsFile(path).tensor("long").begin, 0U);
}

TEST_F(SafetensorsRoundTrip, RefusesTheWrongTypeOrName) {
    const SafetensorsFile file(path);
    const std::string where = "\n  where: " + path.string();
    EXPECT_EQ(test::message_of<InputError>([&] { file.read_floats("a.ids"); }),
              "elements of type I32 cannot be used as weights" + where +
                  ", tensor a.ids\n  do:    convert the tensor to F32, F16 or BF16");
    EXPECT_EQ(test::message_of<InputError>([&] { file.read_int32("norm"); }),
              "elements of type BF16 cannot be used as integers" + where +
                  ", tensor norm\n  do:    convert the tensor to I32 or I64");
    EXPECT_EQ(test::message_of<InputError>([&] { file.tensor("b.weigth"); }),
              "the tensor \"b.weigth\" is missing" + where +
                  ", which holds 7 tensors\n  do:    similar names: b.weight");
    EXPECT_EQ(test::message_of<InputError>([&] { file.bytes("lm_head.weight"); }),
              "the tensor \"lm_head.weight\" is missing" + where +
                  ", which holds 7 tensors\n  do:    give a file that holds it");
    std::vector<float> too_small(5);
    EXPECT_THROW(file.read_floats("b.weight", too_small), ShapeError);
}

TEST(Safetensors, RefusesIntegersThatDoNotFit) {
    const fs::path path = test::fresh_folder("wide") / "x.safetensors";
    const std::vector<std::int64_t> values{1, std::int64_t{1} << 31};
    const TensorToWrite tensor{
        .name = "ids", .type = StoredType::i64, .shape = {2}, .bytes = bytes_of(values)};
    AtomicFile().write(path, encode_safetensors({&tensor, 1}));
    EXPECT_EQ(test::message_of<InputError>([&] { SafetensorsFile(path).read_int32("ids"); }),
              "element 1 is 2147483648: too large for 32 bits\n  where: " + path.string() +
                  ", tensor ids\n  do:    give integers of 32 bits");
}

TEST(Safetensors, AnEmptyFileOfTensorsIsLegal) {
    const fs::path path = test::fresh_folder("none") / "x.safetensors";
    AtomicFile().write(path, encode_safetensors({}));
    EXPECT_TRUE(SafetensorsFile(path).tensors().empty());
}

TEST(EncodeSafetensors, RefusesBytesThatDoNotFitTheShapeAndTwins) {
    const std::vector<float> values(3);
    const TensorToWrite wrong{
        .name = "x", .type = StoredType::f32, .shape = {2, 2}, .bytes = bytes_of(values)};
    EXPECT_THROW(encode_safetensors({&wrong, 1}), ShapeError);
    TensorToWrite right = wrong;
    right.shape = {3};
    const std::vector<TensorToWrite> twins{right, right};
    EXPECT_THROW(encode_safetensors(twins), RunError);
    right.name = "__metadata__";
    EXPECT_THROW(encode_safetensors({&right, 1}), RunError);
}

TEST(StoredType, HasItsSpellingAndSize) {
    EXPECT_EQ(to_string(StoredType::f8_e4m3), "F8_E4M3");
    EXPECT_EQ(to_string(StoredType::boolean), "BOOL");
    EXPECT_EQ(size_of(StoredType::bf16), 2U);
    EXPECT_EQ(size_of(StoredType::f64), 8U);
}

TEST(Safetensors, ReadsAFileThatAnotherLibraryWrote) {
    const fs::path path = test::shared_path("fixtures/algorithms/averaging.safetensors");
    FEDIT_REQUIRE_SHARED(path);
    const SafetensorsFile file(path);
    ASSERT_FALSE(file.tensors().empty());
    for (const auto& [name, tensor] : file.tensors()) {
        EXPECT_EQ(file.bytes(name).size(), tensor.elements() * size_of(tensor.type)) << name;
    }
}

}  // namespace
}  // namespace fedit
