// tests/federation/order_free_sum_test.cpp: the sum over ranks has the bits of the serial sum.
#include <gtest/gtest.h>

#include "fedit/comm/device_sum.h"
#include "fedit/federation/aggregate.h"
#include "fedit/federation/plan.h"
#include "tests/federation/random_updates.h"
#include "tests/support/guarded_backend.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

constexpr std::size_t size = 1000;

/// Places the plan's clients on this world's ranks, sums what each rank holds, then over the ranks.
OrderFreeSum sum_over_ranks(const RoundPlan& plan, const std::vector<float>& global) {
    const Communicator& comm = test::world();
    std::vector<double> cost;
    for (const PlannedClient& planned : plan.clients)
        cost.push_back(static_cast<double>(planned.records));
    OrderFreeSum sum(test::any_backend(), size);
    const auto placement = place(cost, comm.size());
    for (const std::size_t i : placement[comm.rank()]) {
        const PlannedClient& planned = plan.clients[i];
        EXPECT_EQ(sum.add(test::random_update(1 + planned.client, size), global, planned.weight,
                          planned.records),
                  std::nullopt);
    }
    DeviceSum(comm, test::any_backend()).sum(sum.words());
    return sum;
}

TEST(OrderFreeSum, HasTheBitsOfTheSerialSumOnAnyNumberOfRanks) {
    const std::vector<std::int64_t> records = {12, 3, 0, 40, 7, 7, 25};
    const auto global = test::random_update(0, size);
    const RoundPlan plan = plan_round({.seed = 5}, 2, records);

    const OrderFreeSum dealt = sum_over_ranks(plan, global);

    OrderFreeSum serial(test::any_backend(), size);
    for (const PlannedClient& planned : plan.clients)
        ASSERT_EQ(serial.add(test::random_update(1 + planned.client, size), global, planned.weight,
                             planned.records),
                  std::nullopt);
    EXPECT_TRUE(dealt.host_words() == serial.host_words());
    EXPECT_EQ(test::world().sum(dealt.records()), 94);
}

TEST(OrderFreeSum, RanksWithoutAClientAddNothing) {
    const auto global = test::random_update(0, size);
    const RoundPlan plan = plan_round({.seed = 5}, 0, std::vector<std::int64_t>{9});
    ASSERT_EQ(plan.clients.size(), 1U);
    const OrderFreeSum dealt = sum_over_ranks(plan, global);
    OrderFreeSum alone(test::any_backend(), size);
    ASSERT_EQ(alone.add(test::random_update(1, size), global, 1, 9), std::nullopt);
    EXPECT_TRUE(dealt.host_words() == alone.host_words());
}

TEST(OrderFreeSum, HasTheSameWordsInMemoryThatTheHostCannotTouch) {
    test::GuardedBackend guarded;
    const auto global = test::random_update(0, size);
    const auto summed = [&](Backend& backend) {
        OrderFreeSum sum(backend, size);
        const auto rank = static_cast<std::uint32_t>(test::world().rank());
        EXPECT_EQ(sum.add(test::random_update(1 + rank, size), global, 0.5, 3), std::nullopt);
        DeviceSum(test::world(), backend, SumChoice::mpi).sum(sum.words());
        return sum;
    };
    const OrderFreeSum want = summed(test::any_backend()), got = summed(guarded);
    EXPECT_TRUE(got.host_words() == want.host_words());
}

}  // namespace
}  // namespace fedit
