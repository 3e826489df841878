// tests/experiment/aggregation_log_test.cpp: the error gathered over ranks has the bits of the
// error computed by one rank that holds all clients.
#include "experiment/aggregation_log.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fedit/federation/aggregation_error.h"
#include "tests/federation/random_updates.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

/// Five modules of unequal shapes, ranks and scales: one rank in four has two of them.
Layout ragged_layout() {
    Layout layout;
    for (std::int64_t m = 0; m < 5; ++m) {
        const std::int64_t r = 1 + m % 3, in = 4 + 3 * m, out = 9 - m;
        layout.modules.push_back({.name = "layer" + std::to_string(m),
                                  .spans = {{Part::lora_a, layout.size, r, in},
                                            {Part::lora_b, layout.size + r * in, out, r}},
                                  .scale = 0.5 * static_cast<double>(m + 1)});
        layout.size += r * (in + out);
    }
    return layout;
}

std::vector<SummedClient> clients_of(int rank, int ranks, int count, std::size_t size) {
    std::vector<SummedClient> clients;
    for (int k = count - 1; k >= 0; --k) {  // a rank's clients come in any order
        if (k % ranks != rank) continue;
        clients.push_back(
            {10 + k, 0.1 * (k + 1), test::random_update(static_cast<std::uint32_t>(k) + 1, size)});
    }
    return clients;
}

TEST(AggregationLoss, HasTheBitsOfOneRanksOnAnyNumberOfRanks) {
    const Communicator& comm = test::world();
    const Layout layout = ragged_layout();
    const auto size = static_cast<std::size_t>(layout.size);
    const std::vector<float> x = test::random_update(0, size);
    for (const int count : {1, 3, 6}) {
        const AggregationLoss got =
            aggregation_loss(comm, layout, x, clients_of(comm.rank(), comm.size(), count, size));

        std::vector<SummedClient> all = clients_of(0, 1, count, size);
        std::ranges::reverse(all);
        double error = 0, scaled = 0, product = 0;
        for (const Module& module : layout.modules) {
            const auto begin = static_cast<std::size_t>(module.spans[0].offset);
            const auto length =
                static_cast<std::size_t>(module.spans[0].size() + module.spans[1].size());
            std::vector<WeightedModule> clients;
            for (const SummedClient& client : all)
                clients.push_back({client.weight, std::span(client.x).subspan(begin, length)});
            const AggregationError alone =
                aggregation_error(module, std::span(x).subspan(begin, length), clients);
            const double square = module.scale * module.scale;
            error += alone.error;
            scaled += square * alone.error;
            product += square * alone.mean_product;
        }
        EXPECT_EQ(got.error, std::sqrt(error)) << count << " clients";
        EXPECT_EQ(got.relative, std::sqrt(scaled / product)) << count << " clients";
        EXPECT_GT(got.relative, 0);
    }
}

TEST(AggregationLoss, OfClientsThatEqualTheGlobalAdapterIsZero) {
    const Communicator& comm = test::world();
    const Layout layout = ragged_layout();
    const std::vector<float> x(static_cast<std::size_t>(layout.size));
    const std::vector<SummedClient> mine{{comm.rank(), 1, x}};
    const AggregationLoss got = aggregation_loss(comm, layout, x, mine);
    EXPECT_EQ(got.error, 0);
    EXPECT_EQ(got.relative, 0);
}

}  // namespace
}  // namespace fedit
