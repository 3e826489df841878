// tests/experiment/run_files_test.cpp: the log, checkpoints and client files of a run come back as
// they were, and damaged or foreign ones are not used.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "fedit/core/error.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/experiment/client_store.h"
#include "fedit/experiment/run_writer.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

Checkpoint example(std::int64_t rounds_done) {
    Checkpoint state;
    state.rounds_done = rounds_done;
    state.layout.modules = {
        {"layers.0.self_attn.q_proj", {{Part::lora_a, 0, 2, 3}, {Part::lora_b, 6, 4, 2}}, 1.5}};
    state.layout.size = 14;
    state.lora = {.r = 2,
                  .alpha = 4,
                  .dropout = 0.25,
                  .target_modules = {"q_proj"},
                  .use_rslora = true,
                  .rank_pattern = {{"layers.0.self_attn.q_proj", 2}, {"q", 3}},
                  .alpha_pattern = {{"q_proj", 1.25}}};
    for (int i = 0; i < 14; ++i) state.x.push_back(std::ldexp(1.0F, -i));
    RunLog& log = state.log;
    log.facts = {.configuration = "rounds = 3\n",
                 .identity = "seed = 7\n",
                 .identity_hash = "ab",
                 .created = "2026-01-01T00:00:00Z",
                 .seed = 7,
                 .num_clients = 2};
    LifeRow life;
    life.start = "2026-01-01T00:00:00Z";
    life.end_reason = "running";
    life.world_size = 4;
    log.lives = {life};
    RoundRow round;
    round.train_loss = 1.5;
    round.tokens = 1234;
    log.rounds.assign(static_cast<std::size_t>(rounds_done), round);
    ClientRow client;
    client.client = 1;
    client.update_norm = 0.125;
    log.clients = {client};
    log.evaluation = {{.round = -1,
                       .category = "größe",
                       .loss = 2,
                       .perplexity = 7.4,
                       .token_accuracy = 0.25,
                       .labelled_tokens = 5,
                       .records = 2,
                       .records_without_label = 1}};
    log.partition.partition.records = {{0, 2}, {1}};
    log.partition.categories = {"open_qa", ""};
    log.partition.client_category = {1, 1, 1, 0};
    return state;
}

void flip_byte(const fs::path& path, std::streamoff at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const char byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(at);
    file.put(byte);
}

TEST(Checkpoint, ComesBackAsItWas) {
    const fs::path path = test::fresh_folder("round_trip") / "round_000002.h5";
    const Checkpoint written = example(2);
    AtomicFile().write(path, written.encode());

    const Checkpoint read = Checkpoint::read(path);

    EXPECT_EQ(read.rounds_done, 2);
    EXPECT_EQ(read.x, written.x);
    EXPECT_EQ(read.layout, written.layout);
    EXPECT_EQ(read.lora, written.lora);
    EXPECT_EQ(read.log.facts.identity, "seed = 7\n");
    EXPECT_EQ(read.log.facts.seed, 7);
    ASSERT_EQ(read.log.rounds.size(), 2U);
    EXPECT_EQ(read.log.rounds[1].train_loss, 1.5);
    EXPECT_TRUE(std::isnan(read.log.rounds[1].eval_loss));
    EXPECT_EQ(read.log.rounds[1].tokens, 1234);
    EXPECT_EQ(read.log.lives.at(0).world_size, 4);
    EXPECT_EQ(read.log.clients.at(0).update_norm, 0.125);
    EXPECT_EQ(read.log.evaluation.at(0).category, "größe");
    EXPECT_EQ(read.log.evaluation.at(0).token_accuracy, 0.25);
    EXPECT_EQ(read.log.partition.partition.records, written.log.partition.partition.records);
    EXPECT_EQ(read.log.partition.categories, written.log.partition.categories);
    EXPECT_EQ(read.log.partition.client_category, written.log.partition.client_category);
}

TEST(Checkpoint, NewestIntactOneIsFoundAndDamagedOnesAreNamed) {
    const RunFolder folder{test::fresh_folder("newest")};
    std::vector<fs::path> damaged;
    EXPECT_FALSE(newest_checkpoint(folder, damaged));
    for (const std::int64_t round : {1, 2, 3})
        AtomicFile().write(folder.checkpoint(round), example(round).encode());
    flip_byte(folder.checkpoint(3), 5000);
    AtomicFile().write(folder.checkpoints() / "round_x.h5", "not a round");

    const auto newest = newest_checkpoint(folder, damaged);

    ASSERT_TRUE(newest);
    EXPECT_EQ(*newest, folder.checkpoint(2));
    EXPECT_EQ(damaged, std::vector<fs::path>{folder.checkpoint(3)});
    EXPECT_THROW(Checkpoint::read(folder.checkpoint(3)), InputError);
}

TEST(RunFolder, CutsLaterRoundsAndPrunesOldOnes) {
    const RunFolder folder{test::fresh_folder("cut")};
    for (const std::int64_t round : {1, 2, 3, 4}) {
        AtomicFile().write(folder.checkpoint(round), example(round).encode());
        AtomicFile().write(folder.result_of(round) / "adapter_config.json", "{}");
        AtomicFile().write(folder.clients(round) / "client_000000.h5", "x");
    }

    cut_after(folder, 3);
    EXPECT_EQ(rounds_in(folder.checkpoints()), (std::vector<std::int64_t>{1, 2, 3}));
    EXPECT_EQ(rounds_in(folder.results()), (std::vector<std::int64_t>{1, 2, 3}));
    EXPECT_EQ(rounds_in(folder.state()), (std::vector<std::int64_t>{3, 4}));

    prune(folder, 2);
    EXPECT_EQ(rounds_in(folder.checkpoints()), (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(rounds_in(folder.results()), (std::vector<std::int64_t>{2, 3}));
    prune(folder, 0);
    EXPECT_EQ(rounds_in(folder.checkpoints()), (std::vector<std::int64_t>{2, 3}));
}

TEST(RunFolder, KeepsTheClientsThatAKeptCheckpointOfLocalTrainingStartsFrom) {
    const RunFolder folder{test::fresh_folder("kept"), "adapter", CommittedClients::kept};
    for (const std::int64_t round : {0, 1, 2, 3, 4}) {
        AtomicFile().write(folder.clients(round) / "client_000000.h5", "x");
    }
    forget_clients(folder, 0);
    EXPECT_EQ(rounds_in(folder.state()), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));

    AtomicFile().write(folder.checkpoint(2), example(2).encode());
    AtomicFile().write(folder.checkpoint(4), example(4).encode());
    forget_clients(folder, 4);
    EXPECT_EQ(rounds_in(folder.state()), (std::vector<std::int64_t>{1, 2, 3, 4}));

    prune(folder, 1);
    forget_clients(folder, 4);
    EXPECT_EQ(rounds_in(folder.state()), (std::vector<std::int64_t>{3, 4}));
}

TrainOutcome half_trained() {
    TrainOutcome outcome;
    outcome.state.x = {1, 2, 3};
    outcome.state.optimizer = {{4, 5, 6}, {7, 8, 9}, 11};
    outcome.state.step = 12;
    outcome.state.stats.tokens = 345;
    outcome.state.stats.loss_first = 1.0 / 3;
    return outcome;
}

TEST(ClientStore, ComesBackAsItWas) {
    const ClientStore store(AtomicFile(), test::fresh_folder("store"), "tag");
    store.save(7, half_trained());

    const auto read = store.load(7);

    ASSERT_TRUE(read);
    EXPECT_EQ(read->end, TrainEnd::stopped);
    EXPECT_EQ(read->state.x, half_trained().state.x);
    EXPECT_EQ(read->state.optimizer.m, half_trained().state.optimizer.m);
    EXPECT_EQ(read->state.optimizer.v, half_trained().state.optimizer.v);
    EXPECT_EQ(read->state.optimizer.step, 11);
    EXPECT_EQ(read->state.step, 12);
    EXPECT_EQ(read->state.stats.tokens, 345);
    EXPECT_EQ(read->state.stats.loss_first, 1.0 / 3);
}

TEST(ClientStore, FilesOfAnotherStateOrDamagedOnesAreNotUsed) {
    const fs::path folder = test::fresh_folder("foreign");
    const ClientStore store(AtomicFile(), folder, "tag");
    EXPECT_FALSE(store.load(7));
    store.save(7, half_trained());
    EXPECT_FALSE(ClientStore(AtomicFile(), folder, "another state").load(7));
    fs::rename(store.path(7), store.path(8));
    EXPECT_FALSE(store.load(8));
    store.save(7, half_trained());
    flip_byte(store.path(7), 600);
    EXPECT_FALSE(store.load(7));
}

TEST(ClientStore, KeepsHowAClientEnded) {
    const ClientStore store(AtomicFile(), test::fresh_folder("ends"), "tag");
    TrainOutcome outcome = half_trained();
    outcome.end = TrainEnd::finished;
    store.save(1, outcome);
    outcome.end = TrainEnd::diverged;
    outcome.fault = "the loss is nan";
    store.save(2, outcome);
    EXPECT_EQ(store.load(1)->end, TrainEnd::finished);
    EXPECT_EQ(store.load(1)->fault, "");
    EXPECT_EQ(store.load(2)->end, TrainEnd::diverged);
    EXPECT_EQ(store.load(2)->fault, "the loss is nan");
}

/// A cohort goes on only from files of one moment: on some back ends a member's bits depend on who
/// is beside it in each step.
TEST(ClientStore, ACohortIsLoadedWholeOrNotAtAll) {
    const ClientStore store(AtomicFile(), test::fresh_folder("cohort"), "tag");
    const std::vector<int> clients{4, 2, 9};
    const auto save = [&](int client, TrainEnd end, std::int64_t step) {
        TrainOutcome outcome = half_trained();
        outcome.end = end;
        outcome.state.step = step;
        store.save(client, outcome);
    };
    const auto loaded = [&] { return store.load_cohort(clients).size(); };
    save(4, TrainEnd::stopped, 6);
    save(2, TrainEnd::finished, 6);
    EXPECT_EQ(loaded(), 0U) << "a client has no file";
    save(9, TrainEnd::diverged, 5);
    ASSERT_EQ(loaded(), 3U);
    EXPECT_EQ(store.load_cohort(clients)[1].end, TrainEnd::finished);
    EXPECT_EQ(store.load_cohort(clients)[2].state.step, 5);
    save(9, TrainEnd::diverged, 6);
    EXPECT_EQ(loaded(), 0U) << "it diverged in a step that client 4 has not taken";
    save(9, TrainEnd::stopped, 6);
    EXPECT_EQ(loaded(), 3U);
    save(9, TrainEnd::stopped, 7);
    EXPECT_EQ(loaded(), 0U) << "two members are at different steps";
    save(9, TrainEnd::finished, 8);
    EXPECT_EQ(loaded(), 0U) << "it finished beside steps that client 4 has not taken";
    save(4, TrainEnd::finished, 12);
    EXPECT_EQ(loaded(), 3U);
}

/// Fails writes while `failing`.
struct Disk {
    bool failing = false;
    AtomicFile files() {
        return AtomicFile([this](WritePoint point, const fs::path& path) {
            if (failing && point == WritePoint::written) {
                throw IoError(ENOSPC, {.what = "no space left on device",
                                       .where = path.string(),
                                       .remedy = "free some space"});
            }
        });
    }
};

TEST(RunWriter, AFullDiskIsAWarningAndIsTriedAgain) {
    const RunFolder folder{test::fresh_folder("disk_full")};
    std::ostringstream said;
    Disk disk;
    RunWriter writer(disk.files(), folder,
                     {.checkpoint_every = 1, .keep_last = 0, .base_model = "m"},
                     Log(said, 0, Verbosity::normal));
    writer.after_round(example(1), RunWriter::Moment::between);
    EXPECT_EQ(writer.committed(), 1);

    disk.failing = true;
    writer.after_round(example(2), RunWriter::Moment::between);
    EXPECT_EQ(writer.committed(), 1);
    EXPECT_NE(said.str().find("round 2 is not saved yet"), std::string::npos) << said.str();
    EXPECT_NE(said.str().find("no space left"), std::string::npos) << said.str();

    disk.failing = false;
    writer.after_round(example(3), RunWriter::Moment::between);
    EXPECT_EQ(writer.committed(), 3);
    EXPECT_EQ(rounds_in(folder.checkpoints()), (std::vector<std::int64_t>{1, 3}));
    EXPECT_EQ(fs::read_symlink(folder.result_link()), "adapters/round_000003");
}

TEST(RunWriter, AFullDiskFailsTheRunWhenItStaysFullOrAtTheEnd) {
    const RunFolder folder{test::fresh_folder("disk_stays_full")};
    std::ostringstream said;
    Disk disk;
    disk.failing = true;
    RunWriter writer(disk.files(), folder,
                     {.checkpoint_every = 1, .keep_last = 0, .base_model = "m"},
                     Log(said, 0, Verbosity::normal));
    writer.after_round(example(1), RunWriter::Moment::between);
    EXPECT_THROW(writer.after_round(example(2), RunWriter::Moment::between), IoError);
    RunWriter fresh(disk.files(), folder,
                    {.checkpoint_every = 5, .keep_last = 0, .base_model = "m"},
                    Log(said, 0, Verbosity::normal));
    EXPECT_THROW(fresh.after_round(example(5), RunWriter::Moment::last), IoError);
}

}  // namespace
}  // namespace fedit
