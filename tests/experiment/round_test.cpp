// tests/experiment/round_test.cpp: all ranks leave a round with the same adapter, and one that
// entered it with another is noticed.
#include "fedit/experiment/round.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iostream>

#include "fedit/core/error.h"
#include "fedit/experiment/session.h"
#include "tests/model/tiny_model.h"
#include "tests/support/mpi_test_main.h"

namespace fedit::test {
namespace {

/// A folder of all ranks, with a model and twelve tokenised records.
std::filesystem::path folder_with_inputs(const std::string& name) {
    return folder_of_ranks(name, [](const std::filesystem::path& folder) {
        write_tiny_model(folder);
        std::ofstream records(folder / "records.jsonl");
        for (int i = 0; i < 12; ++i) {
            records << "{\"input_ids\": [1, " << 10 + i << ", 5, " << 30 + i
                    << "], \"labels\": [-100, -100, 5, " << 30 + i << "]}\n";
        }
    });
}

/// One round of four clients from the adapter that `change` makes of the common one; the result.
template <class Change>
std::vector<float> run_round(const std::filesystem::path& folder, const Change& change) {
    Config config;
    config.data = (folder / "records.jsonl").string();
    config.num_clients = 4;
    config.lora_r = 2;
    const Context context{.comm = world(),
                          .log = Log(std::cerr, world().rank(), Verbosity::quiet),
                          .stop = StopToken(),
                          .files = AtomicFile(),
                          .arguments = {},
                          .environment = {}};
    const FederatedData data = load_data(world(), config, 50, context.log);
    Machine machine{.backend = make_cpu_backend(1), .dtype = Dtype::fp32, .threads = 1};
    const BaseModel model(world(), folder, machine);
    const Layout layout = make_lora_layout(model.config(), lora_config(config));
    Decoder decoder(model.config(), model.weights(), layout, *machine.backend);
    LocalTrainer trainer(decoder, layout, *machine.backend, local_config(config));
    StopWatch watch(context.stop, 0, folder / "stop");
    const RunFolder run{.root = folder};
    RoundRunner runner(context, config, data, layout, trainer, *machine.backend, watch, run,
                       nullptr);
    std::vector<float> x = initial_adapter(layout, 1);
    change(x);
    EXPECT_TRUE(runner.run(plan_round(plan_config(config), 0, data.trainable), x, "tag"));
    return x;
}

TEST(Round, MovesTheAdapterOfAllRanksAlike) {
    std::vector<float> start;
    const auto moved =
        run_round(folder_with_inputs("round"), [&](std::vector<float>& x) { start = x; });
    EXPECT_NE(moved, start);
    EXPECT_TRUE(world().equal(checksum(moved)));
}

TEST(Round, NoticesARankThatBeganWithAnotherAdapter) {
    const auto folder = folder_with_inputs("differing");
    const auto spoil = [](std::vector<float>& x) {
        if (world().rank() == 1) x.back() += 0.125F;
    };
    if (world().size() == 1) {
        EXPECT_NO_THROW(run_round(folder, spoil));
        return;
    }
    try {
        run_round(folder, spoil);
        ADD_FAILURE() << "the round ended as if nothing were wrong";
    } catch (const RunError& error) {
        EXPECT_NE(std::string(error.what()).find("the ranks hold different adapters"),
                  std::string::npos)
            << error.what();
    }
}

}  // namespace
}  // namespace fedit::test
