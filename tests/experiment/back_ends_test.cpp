// tests/experiment/back_ends_test.cpp: a base model in memory that the host cannot touch, once for
// the ranks that share a device; evaluation and answers from it; and the plan of its memory.
#include <gtest/gtest.h>

#include <numeric>

#include "experiment/memory_plan.h"
#include "experiment/shared_block.h"
#include "fedit/core/error.h"
#include "fedit/experiment/evaluation.h"
#include "fedit/experiment/session.h"
#include "tests/model/tiny_model.h"
#include "tests/support/backends.h"
#include "tests/support/mpi_test_main.h"
#include "tests/support/shared_data.h"
#include "tests/train/records.h"

namespace fedit::test {
namespace {

std::filesystem::path shared_model(const std::string& name) {
    return folder_of_ranks(name, [](const auto& folder) { write_tiny_model(folder); });
}

/// A machine whose device is that of `kind`.
Machine machine_of(BackendKind kind) {
    return {.backend = make_backend(kind), .dtype = Dtype::fp32, .threads = 1};
}

TEST(GuardedBase, EvaluatesAndAnswersWithTheCpusBits) {
    const auto folder = shared_model("model");
    const EncodedRecords records = random_records(21, 6);
    const std::vector<Prompt> prompts{
        {random_tokens(5, 1), 0}, {random_tokens(17, 2), 1}, {random_tokens(1, 3), 2}};
    const auto run = [&](BackendKind kind) {
        Machine machine = machine_of(kind);
        const BaseModel model(world(), folder, machine);
        const Layout layout =
            make_lora_layout(model.config(), {.r = 2, .target_modules = {"q_proj", "v_proj"}});
        const std::vector<float> x = random_adapter(layout.size, 0.3, 5);
        Decoder decoder(model.config(), model.weights(), layout, *machine.backend);
        const std::vector<RecordScore> scores =
            score_records(world(), decoder, *machine.backend, records, x, 4);
        Generator generator(model.config(), decoder, *machine.backend, nullptr, x,
                            {.max_new_tokens = 8});
        std::vector<double> losses;
        for (const RecordScore& score : scores) losses.push_back(score.loss);
        std::vector<std::vector<std::int32_t>> answers;
        for (const Answer& answer : generator.answer(world(), prompts, 2)) {
            answers.push_back(answer.new_ids);
        }
        return std::pair(losses, answers);
    };
    EXPECT_EQ(run(BackendKind::guarded), run(BackendKind::cpu));
}

TEST(GuardedBase, IsRefusedWhereTheDeviceIsTooSmall) {
    const auto folder = shared_model("large");
    Machine machine{.backend = std::make_unique<GuardedBackend>(1, Dtype::fp32, "small", 1000),
                    .dtype = Dtype::fp32,
                    .threads = 1};
    try {
        const BaseModel model(world(), folder, machine);
        FAIL() << "a model larger than the device was taken";
    } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find("does not fit into the device's memory"),
                  std::string::npos);
    }
}

TEST(SharedBlock, RanksOfADeviceSeeWhatItsFirstRankWrote) {
    // Two devices: ranks 0, 1 and ranks 2, 3.
    const std::string device = "device " + std::to_string(world().rank() / 2);
    GuardedBackend backend(1, Dtype::fp32, device);
    const Communicator node = world().node();
    SharedBlock block(node, backend, 8);
    EXPECT_EQ(block.leader(), world().rank() % 2 == 0);
    const float mine = 0.5F + static_cast<float>(world().rank() / 2);
    if (block.leader()) {
        const std::vector<float> values{mine, -mine};
        backend.upload(block.bytes().data(), std::as_bytes(std::span(values)));
    }
    block.seal();
    std::vector<float> seen(2);
    backend.download(std::as_writable_bytes(std::span(seen)), block.bytes().data());
    EXPECT_EQ(seen, (std::vector<float>{mine, -mine}));
}

TEST(SharedBlock, OfHostMemoryIsTheNodes) {
    const auto backend = make_cpu_backend(1);
    const Communicator node = world().node();
    SharedBlock block(node, *backend, 4);
    EXPECT_EQ(block.leader(), node.rank() == 0);
    if (block.leader()) block.bytes()[0] = std::byte{42};
    block.seal();
    EXPECT_EQ(block.bytes()[0], std::byte{42});
}

TEST(ChooseMachine, TakesTheCpuWhereThereIsNoDevice) {
    if (cuda_device_count() > 0) GTEST_SKIP() << "this machine has CUDA devices";
    Config config;
    config.threads = 1;
    EXPECT_EQ(choose_machine(config, world()).backend->info().kind, "cpu");
    config.device = "cuda";
    EXPECT_THROW(choose_machine(config, world()), InputError);
}

constexpr std::size_t mebibyte = std::size_t{1} << 20;

TEST(MemoryPlan, CountsTheBaseOnceANode) {
    MemoryPlan plan{.base = 100 * mebibyte,
                    .training = 10 * mebibyte,
                    .records = 2 * mebibyte,
                    .round = mebibyte / 2,
                    .sum = mebibyte / 2,
                    .ranks_on_node = 4,
                    .node = 152 * mebibyte};
    EXPECT_EQ(plan.needed_on_node(), 152 * mebibyte);
    EXPECT_EQ(plan.needed_on_device(), 0U);
    EXPECT_NO_THROW(plan.require_fits());
    plan.node -= 1;
    try {
        plan.require_fits();
        FAIL() << "a run that does not fit was taken";
    } catch (const InputError& error) {
        const std::string text = error.what();
        for (const char* part : {"--recompute layer", "fewer ranks a node", "4 rank(s)"}) {
            EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
        }
    }
}

TEST(MemoryPlan, TellsADevicesMemoryFromTheNodes) {
    MemoryPlan plan{.base = 100 * mebibyte,
                    .training = 8 * mebibyte,
                    .overhead = 5 * mebibyte,
                    .records = 2 * mebibyte,
                    .round = mebibyte,
                    .sum = 2 * mebibyte,
                    .ranks_on_node = 4,
                    .node = 12 * mebibyte,
                    .device_name = "a card",
                    .ranks_on_device = 2,
                    .device = 130 * mebibyte};
    EXPECT_EQ(plan.needed_on_device(), 130 * mebibyte);
    EXPECT_EQ(plan.needed_on_node(), 12 * mebibyte);
    EXPECT_NO_THROW(plan.require_fits());
    const auto faults = [&](std::size_t device, std::size_t node) {
        plan.device = device, plan.node = node;
        try {
            plan.require_fits();
        } catch (const InputError& error) {
            return error.faults();
        }
        return std::vector<Fault>{};
    };
    const std::vector<Fault> device = faults(129 * mebibyte, 12 * mebibyte);
    ASSERT_EQ(device.size(), 1U);
    EXPECT_NE(device[0].what.find("device"), std::string::npos);
    EXPECT_NE(device[0].remedy.find("fewer ranks a device"), std::string::npos);
    const std::vector<Fault> node = faults(130 * mebibyte, 11 * mebibyte);
    ASSERT_EQ(node.size(), 1U);
    EXPECT_EQ(node[0].remedy, "start fewer ranks a node");
    EXPECT_EQ(faults(0, 0).size(), 2U);
}

TEST(Communicator, AlikeRanksAreThoseOfOneKey) {
    const Communicator part = world().alike(world().rank() % 2 == 0 ? "even" : "odd");
    const int even = (world().size() + 1) / 2;
    EXPECT_EQ(part.size(), world().rank() % 2 == 0 ? even : world().size() - even);
    EXPECT_EQ(part.rank(), world().rank() / 2);
    EXPECT_EQ(part.sum(std::int64_t{1}), part.size());
}

}  // namespace
}  // namespace fedit::test
