// tests/experiment/federated_data_test.cpp: every rank holds the same records and partition, and
// what was left out is said.
#include "fedit/experiment/federated_data.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iostream>
#include <span>
#include <sstream>
#include <string_view>

#include "fedit/core/error.h"
#include "tests/support/mpi_test_main.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

/// Tokenised records need no tokenizer: three usable ones and one without a label.
std::string lines(int first_id) {
    std::ostringstream text;
    for (int i = 0; i < 4; ++i) {
        text << "{\"input_ids\": [1, " << first_id + i << ", 5, 2], \"labels\": [-100, -100, "
             << (i == 3 ? "-100, -100" : "5, 2") << "], \"category\": \""
             << (i % 2 == 0 ? "even" : "odd") << "\"}\n";
    }
    return text.str();
}

struct Loaded {
    FederatedData data;
    Config config;
    std::string said;
};

Loaded load(Config config) {
    std::ostringstream said;
    FederatedData data =
        load_data(test::world(), config, 100, Log(said, test::world().rank(), Verbosity::normal));
    return {std::move(data), std::move(config), said.str()};
}

TEST(FederatedData, ClientFilesAreClientsAndTheTestFileIsHeldOut) {
    const fs::path folder = test::folder_of_ranks("files");
    if (test::world().rank() == 0) {
        std::ofstream(folder / "local_training_0.json") << lines(10);
        std::ofstream(folder / "local_training_1.json") << lines(20) << lines(30);
        std::ofstream(folder / "global_test.json") << lines(40);
    }
    Config config;
    config.data = folder.string();
    const auto [data, resolved, said] = load(config);
    EXPECT_EQ(resolved.partition, "files");
    EXPECT_EQ(resolved.num_clients, 2);
    EXPECT_EQ(data.trainable, (std::vector<std::int64_t>{3, 6}));
    EXPECT_EQ(data.table.client_category, (std::vector<std::int64_t>{2, 2, 4, 4}));
    EXPECT_EQ(data.client(1).size(), 8);
    EXPECT_EQ(data.client(1).tokens[1], 20);
    EXPECT_EQ(data.evaluation.size(), 4);
    EXPECT_TRUE(test::world().equal(std::hash<std::string>()(data.fingerprint)));
    if (test::world().rank() == 0) {
        EXPECT_NE(said.find("3 of 12 training records have no labelled token"), std::string::npos)
            << said;
    }
}

TEST(FederatedData, RecordsBeyondTheModelsPositionsAreTold) {
    EncodedRecords records;
    records.begin = {0, 4, 13, 22};  // lengths 4, 9, 9
    ModelConfig model;
    const auto said = [&](std::int64_t positions, RopeType type) {
        model.max_positions = positions;
        model.rope.type = type;
        std::ostringstream out;
        warn_of_long_records(records, model, Log(out, 0, Verbosity::normal));
        return out.str();
    };
    EXPECT_NE(said(8, RopeType::standard)
                  .find("2 of 3 records are longer than the model's "
                        "max_position_embeddings, 8"),
              std::string::npos);
    EXPECT_EQ(said(9, RopeType::standard), "");
    EXPECT_EQ(said(8, RopeType::dynamic), "");
}

// Tokenised once for the run: what rank 0 encoded is all that the others ever have.
TEST(FederatedData, RankZeroAloneReadsAndEncodes) {
    const bool is_root = test::world().rank() == 0;
    Config config;
    config.data = is_root ? test::source_path("data/test.jsonl").string() : "absent.jsonl";
    config.tokenizer = is_root ? test::source_path("data/tiny-llama").string() : "absent";
    const FederatedData data = load_data(test::world(), config, 1536,
                                         Log(std::cerr, test::world().rank(), Verbosity::quiet));
    EXPECT_EQ(data.records.size(), 80);
    EXPECT_GT(data.records.tokens.size(), 80U * 20);
    const auto bytes = std::as_bytes(std::span(data.records.tokens));
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    EXPECT_TRUE(test::world().equal(std::hash<std::string_view>()(text)));
    std::int64_t tokens = 0;
    for (int k = 0; k < data.num_clients(); ++k) tokens += std::ssize(data.client(k).tokens);
    EXPECT_EQ(tokens, std::ssize(data.records.tokens));
}

TEST(FederatedData, OneFileIsDealtEvenlyAndIdleClientsAreNamed) {
    const fs::path folder = test::folder_of_ranks("one_file");
    if (test::world().rank() == 0) std::ofstream(folder / "records.jsonl") << lines(10);
    Config config;
    config.data = (folder / "records.jsonl").string();
    config.num_clients = 4;
    const auto [data, resolved, said] = load(config);
    EXPECT_EQ(resolved.partition, "iid");
    EXPECT_EQ(data.num_clients(), 4);
    std::int64_t usable = 0;
    for (const std::int64_t records : data.trainable) usable += records;
    EXPECT_EQ(usable, 3);
    if (test::world().rank() == 0) {
        EXPECT_NE(said.find("clients without a trainable record are never sampled"),
                  std::string::npos)
            << said;
    }
}

TEST(FederatedData, AFaultOfRootIsEveryRanks) {
    Config config;
    config.data = "absent.jsonl";
    EXPECT_THROW(load(config), Error);
    config.data = test::folder_of_ranks("not_files").string();
    EXPECT_THROW(load(config), InputError);
}

TEST(FederatedData, FilesNeedAFolder) {
    const fs::path folder = test::folder_of_ranks("no_folder");
    if (test::world().rank() == 0) std::ofstream(folder / "records.jsonl") << lines(10);
    Config config;
    config.data = (folder / "records.jsonl").string();
    config.partition = "files";
    try {
        load(config);
        ADD_FAILURE() << "a file was taken for a folder";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("--partition files needs a folder"),
                  std::string::npos)
            << error.what();
    }
}

}  // namespace
}  // namespace fedit
