// tests/model/hf_folder_test.cpp: model folders whole and in shards, and folders that lie.
#include "fedit/model/hf_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "fedit/io/atomic_file.h"
#include "fedit/io/sha256.h"
#include "tests/model/expect_fault.h"
#include "tests/model/tiny_model.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

struct Tensor {
    StoredType type = StoredType::f32;
    std::vector<std::int64_t> shape;
    std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

/// The tensors of a tiny model, to be spoilt.
Tensors tensors_of(const fs::path& path) {
    const SafetensorsFile file(path);
    Tensors out;
    for (const auto& [name, stored] : file.tensors()) {
        const auto bytes = file.bytes(name);
        out[name] = {stored.type, stored.shape, {bytes.begin(), bytes.end()}};
    }
    return out;
}

void write_tensors(const fs::path& path, const Tensors& tensors) {
    std::vector<TensorToWrite> list;
    for (const auto& [name, t] : tensors) list.push_back({name, t.type, t.shape, t.bytes});
    AtomicFile().write(path, std::span<const std::byte>(encode_safetensors(list)));
}

std::vector<float> read_all(const HfFolder& folder, const std::string& name, std::size_t size) {
    std::vector<float> out(size);
    folder.read(name, out);
    return out;
}

class HfFolderTest : public testing::Test {
protected:
    HfFolderTest() : path_(write_tiny_model(fresh_folder("model"))) {
        tensors_ = tensors_of(path_ / "model.safetensors");
    }
    void rewrite() { write_tensors(path_ / "model.safetensors", tensors_); }
    void rewrite_config(const std::string& config) {
        AtomicFile().write(path_ / "config.json", std::string_view(config));
    }
    /// Splits the tensors over two shards; the index is returned for the caller to write.
    std::map<std::string, std::string> write_shards() {
        fs::remove(path_ / "model.safetensors");
        std::map<std::string, std::string> index;
        Tensors shards[2];
        for (const auto& [name, tensor] : tensors_) {
            const std::size_t shard = index.size() % 2;
            shards[shard][name] = tensor;
            index[name] = shard == 0 ? "a.safetensors" : "b.safetensors";
        }
        write_tensors(path_ / "a.safetensors", shards[0]);
        write_tensors(path_ / "b.safetensors", shards[1]);
        return index;
    }
    void write_index(const std::map<std::string, std::string>& index) {
        JsonWriter map, json;
        for (const auto& [name, shard] : index) map.set(name, shard);
        json.set("weight_map", map);
        AtomicFile().write(path_ / "model.safetensors.index.json", std::string_view(json.text()));
    }
    std::size_t refused(const std::vector<std::string>& message) {
        return expect_refused([&] { HfFolder folder(path_); }, message);
    }

    fs::path path_;
    Tensors tensors_;
};

TEST_F(HfFolderTest, WholeAndShardedHoldTheSameModel) {
    const HfFolder whole(path_);
    const std::vector<float> norm = read_all(whole, "model.norm.weight", 24);
    EXPECT_EQ(norm, std::vector<float>(24, 1.0F));
    const std::vector<float> q = read_all(whole, "model.layers.1.self_attn.q_proj.weight", 576);
    const std::string fingerprint = whole.fingerprint();

    write_index(write_shards());
    const HfFolder sharded(path_);
    EXPECT_EQ(read_all(sharded, "model.layers.1.self_attn.q_proj.weight", 576), q);
    EXPECT_EQ(sharded.fingerprint(), fingerprint);
}

TEST_F(HfFolderTest, FingerprintSeesOneBitOfAWeightAndTheConfig) {
    const std::string before = HfFolder(path_).fingerprint();
    EXPECT_EQ(before.size(), 64U);
    tensors_["model.norm.weight"].bytes[0] ^= std::byte{1};
    rewrite();
    const std::string weight_changed = HfFolder(path_).fingerprint();
    EXPECT_NE(weight_changed, before);
    rewrite_config(tiny_config(R"(, "bos_token_id": 3)"));
    EXPECT_NE(HfFolder(path_).fingerprint(), weight_changed);
}

TEST_F(HfFolderTest, FingerprintHashesPiecesSideBySide) {
    const HfFolder folder(path_);
    Sha256 hash;
    hash.add(read_text_file(path_ / "config.json"));
    for (const TensorSpec& spec : expected_tensors(folder.config())) {  // all are one piece
        std::string shape;
        for (const std::int64_t n : spec.shape) {
            shape += (shape.empty() ? "[" : ", ") + std::to_string(n);
        }
        hash.add(spec.name + " F32 " + shape + "];");
        hash.add(sha256(tensors_[spec.name].bytes));
    }
    EXPECT_EQ(folder.fingerprint(), to_hex(hash.finish()));
    std::int64_t told = 0;
    EXPECT_EQ(folder.fingerprint(3, [&](std::int64_t done) { told = done; }), folder.fingerprint());
    EXPECT_EQ(told, 4 * folder.config().parameters());
    EXPECT_EQ(told, folder.bytes());
}

TEST_F(HfFolderTest, FingerprintSeesEveryPieceOfALargeTensor) {
    // A vocabulary of 200,000 makes the embedding 18.3 MiB: two pieces.
    std::string config = tiny_config();
    config.replace(config.find("\"vocab_size\": 50"), 16, "\"vocab_size\": 200000");
    rewrite_config(config);
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
        tensors_[name].shape = {200000, 24};
        tensors_[name].bytes.assign(std::size_t{200000} * 24 * 4, std::byte{0});
    }
    rewrite();
    const std::string before = HfFolder(path_).fingerprint(2);
    tensors_["model.embed_tokens.weight"].bytes.back() = std::byte{1};
    rewrite();
    EXPECT_NE(HfFolder(path_).fingerprint(2), before);
}

TEST_F(HfFolderTest, HandsOutStoredBytesOnceTheyAreFinite) {
    const std::string name = "model.layers.1.mlp.up_proj.weight";
    Tensor& tensor = tensors_[name];
    tensor.type = StoredType::bf16;
    tensor.bytes.assign(2 * 960, std::byte{0x3f});
    rewrite();
    const HfFolder good(path_);
    const auto bytes = good.stored(name, 2);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
    EXPECT_EQ(good.elements(name), 960);

    for (const std::size_t element : {std::size_t{41}, std::size_t{17}}) {
        tensor.bytes[2 * element + 1] = std::byte{0xff};  // 0xff80: minus infinity
        tensor.bytes[2 * element] = std::byte{0x80};
    }
    rewrite();
    const HfFolder folder(path_);
    std::vector<float> out(960);
    const std::vector<std::string> message{"a weight is -inf", "tensor " + name, "element 17"};
    expect_refused([&] { static_cast<void>(folder.stored(name, 2)); }, message);
    expect_refused([&] { folder.read(name, out, 2); }, message);
}

TEST_F(HfFolderTest, ReadsBf16AndF16) {
    Tensor& norm = tensors_["model.norm.weight"];
    norm.type = StoredType::bf16;
    norm.bytes.assign(48, std::byte{0});
    norm.bytes[2] = std::byte{0xC0};
    norm.bytes[3] = std::byte{0x3F};  // 0x3FC0 = 1.5
    Tensor& other = tensors_["model.layers.0.input_layernorm.weight"];
    other.type = StoredType::f16;
    other.bytes.assign(48, std::byte{0});
    other.bytes[1] = std::byte{0xC0};  // 0xC000 = -2
    rewrite();
    const HfFolder folder(path_);
    EXPECT_EQ(read_all(folder, "model.norm.weight", 24)[1], 1.5F);
    EXPECT_EQ(read_all(folder, "model.layers.0.input_layernorm.weight", 24)[0], -2.0F);
}

TEST_F(HfFolderTest, ATiedHeadMayBeStoredAsEitherOrBoth) {
    const auto embedding = tensors_.extract("model.embed_tokens.weight");
    const auto tied = tiny_config();
    std::string config = tied;
    config.replace(config.find("\"tie_word_embeddings\": false"), 28,
                   "\"tie_word_embeddings\": true");
    rewrite_config(config);
    rewrite();  // only lm_head.weight
    const std::vector<float> head = read_all(HfFolder(path_), "model.embed_tokens.weight", 1200);

    tensors_["model.embed_tokens.weight"] = tensors_["lm_head.weight"];
    rewrite();  // both, equal
    EXPECT_EQ(read_all(HfFolder(path_), "model.embed_tokens.weight", 1200), head);

    tensors_["model.embed_tokens.weight"] = embedding.mapped();
    rewrite();
    refused({"lm_head.weight and model.embed_tokens.weight differ", "tie_word_embeddings"});

    tensors_.erase("lm_head.weight");
    rewrite();  // only the embedding
    EXPECT_NE(read_all(HfFolder(path_), "model.embed_tokens.weight", 1200), head);
}

TEST_F(HfFolderTest, IgnoresStoredRotaryFrequencies) {
    tensors_["model.layers.0.self_attn.rotary_emb.inv_freq"] = tensors_["model.norm.weight"];
    rewrite();
    EXPECT_NO_THROW(HfFolder{path_});
}

TEST_F(HfFolderTest, RandomWeightsAreAFunctionOfTheSeed) {
    const ModelConfig config = HfFolder(path_).config();
    EXPECT_EQ(make_random_weights(config, 5), make_random_weights(config, 5, 4));
    EXPECT_NE(make_random_weights(config, 5), make_random_weights(config, 6));
    const std::vector<float> q =
        read_all(HfFolder(path_), "model.layers.0.mlp.down_proj.weight", 960);
    double sum = 0, squares = 0;
    for (const float value : q) {
        sum += value;
        squares += double{value} * value;
    }
    // 960 draws of deviation 0.3: four standard errors of mean and of variance.
    EXPECT_NEAR(sum / 960, 0, 4 * 0.3 / std::sqrt(960.0));
    EXPECT_NEAR(squares / 960, 0.09, 4 * 0.09 * std::sqrt(2 / 960.0));
}

TEST_F(HfFolderTest, RefusesAFolderThatIsNotThere) {
    expect_refused([&] { HfFolder folder(path_ / "absent"); }, {"does not exist", "absent"});
}

TEST_F(HfFolderTest, RefusesAFolderWithoutConfig) {
    fs::remove(path_ / "config.json");
    refused({"config.json is missing"});
}

TEST_F(HfFolderTest, RefusesAFolderWithoutWeights) {
    fs::remove(path_ / "model.safetensors");
    refused({"no weights", "model.safetensors.index.json"});
}

TEST_F(HfFolderTest, TellsMissingSurplusMisshapenAndMistypedTensorsAtOnce) {
    tensors_.erase("model.layers.1.mlp.up_proj.weight");
    tensors_["model.layers.2.mlp.up_proj.weight"] = tensors_["model.norm.weight"];
    tensors_["model.layers.0.self_attn.k_proj.weight"].shape = {24, 12};
    Tensor& norm = tensors_["model.norm.weight"];
    norm = {StoredType::f64, {24}, std::vector<std::byte>(192)};
    rewrite();
    EXPECT_EQ(refused({"model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight",
                       "[24, 12]", "[12, 24]", "has type F64", "supported: F32, F16, BF16"}),
              4U);
}

TEST_F(HfFolderTest, RefusesATruncatedFile) {
    const fs::path file = path_ / "model.safetensors";
    fs::resize_file(file, fs::file_size(file) - 100);
    refused({"model.safetensors"});
}

TEST_F(HfFolderTest, NamesTheFileTensorAndElementOfANaN) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(tensors_["model.layers.1.mlp.up_proj.weight"].bytes.data() + 4 * 17, &nan, 4);
    rewrite();
    const HfFolder folder(path_);
    std::vector<float> out(960);
    expect_refused([&] { folder.read("model.layers.1.mlp.up_proj.weight", out); },
                   {"a weight is nan", "model.safetensors",
                    "tensor model.layers.1.mlp.up_proj.weight", "element 17"});
    expect_refused([&] { folder.read("nothing", out); }, {"no tensor nothing"});
}

TEST_F(HfFolderTest, RefusesAMissingShardOnce) {
    write_index(write_shards());
    fs::remove(path_ / "b.safetensors");
    EXPECT_EQ(refused({"shard b.safetensors is missing"}), 1U);
}

TEST_F(HfFolderTest, RefusesAnIndexThatNamesTheWrongShard) {
    auto index = write_shards();
    index["model.norm.weight"] =
        index["model.norm.weight"] == "a.safetensors" ? "b.safetensors" : "a.safetensors";
    write_index(index);
    EXPECT_EQ(refused({"tensor model.norm.weight is not in the shard", "index.json",
                       "tensor model.norm.weight of a shard is not in the index"}),
              2U);
}

TEST_F(HfFolderTest, RefusesATensorInNoShard) {
    tensors_.erase("model.norm.weight");
    write_index(write_shards());
    EXPECT_EQ(refused({"missing: model.norm.weight"}), 1U);
}

TEST_F(HfFolderTest, RefusesAnIndexAndAFileWithoutTensors) {
    fs::remove(path_ / "model.safetensors");
    write_index({});
    refused({"tensors that config.json calls for are missing", "model.embed_tokens.weight"});
    AtomicFile().write(path_ / "model.safetensors", encode_safetensors({}));
    refused({"tensors that config.json calls for are missing", "model.embed_tokens.weight"});
}

TEST_F(HfFolderTest, RefusesShardsOutsideTheFolderAndAnIndexWithoutMap) {
    auto index = write_shards();
    index["model.norm.weight"] = "../elsewhere.safetensors";
    write_index(index);
    refused({"../elsewhere.safetensors", "lies beside the index"});
    index["model.norm.weight"] = std::string(300, 'n');  // longer than a file system allows
    write_index(index);
    refused({"nnn is missing", "complete the download"});
    AtomicFile().write(path_ / "model.safetensors.index.json", std::string_view("{}"));
    refused({"weight_map", "index.json"});
}

}  // namespace
}  // namespace fedit::test
