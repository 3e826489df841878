// tests/comm/sum_way_test.cpp: which ranks may sum by NCCL, and what they are told if not.
#include "comm/sum_way.h"

#include <gtest/gtest.h>

#include <vector>

namespace fedit {
namespace {

constexpr int version = 22809;

RankDevice rank(std::int64_t node, std::string bus_id, int loaded = version) {
    return {
        .node = node, .bus_id = std::move(bus_id), .nccl_built = version, .nccl_loaded = loaded};
}

SumWay choose(const std::vector<RankDevice>& ranks, SumChoice choice = SumChoice::automatic) {
    return choose_sum_way(choice, ranks);
}

TEST(SumWay, IsNcclWhereEveryRankHasItsOwnGpu) {
    const SumWay way =
        choose({rank(0, "0000:1b:00"), rank(0, "0000:3b:00"), rank(2, "0000:1b:00")});
    EXPECT_TRUE(way.nccl);
    EXPECT_EQ(way.text, "NCCL 2.28.9");
}

TEST(SumWay, IsNcclWithALaterLibraryThatAllRanksHave) {
    const SumWay way = choose({rank(0, "a", 23001), rank(1, "a", 23001)});
    EXPECT_TRUE(way.nccl);
    EXPECT_EQ(way.text, "NCCL 2.30.1");
}

TEST(SumWay, IsMpiForAllWhereTwoRanksShareAGpu) {
    const SumWay way = choose({rank(0, "a"), rank(0, "b"), rank(2, "a"), rank(2, "a")});
    EXPECT_FALSE(way.nccl);
    EXPECT_EQ(way.text, "MPI through host memory (ranks 2 and 3 share the card a)");
}

TEST(SumWay, IsMpiWhereARankComputesOnItsCpu) {
    EXPECT_EQ(choose({rank(0, "a"), rank(0, "")}).text,
              "MPI through host memory (not all ranks have a GPU)");
    EXPECT_FALSE(choose({rank(0, ""), rank(0, "")}).nccl);
}

TEST(SumWay, IsMpiForOneRank) {
    EXPECT_EQ(choose({rank(0, "a")}).text, "MPI through host memory (there is one rank)");
}

TEST(SumWay, IsMpiWhereItIsAskedFor) {
    const SumWay way = choose({rank(0, "a"), rank(0, "b")}, SumChoice::mpi);
    EXPECT_FALSE(way.nccl);
    EXPECT_EQ(way.text, "MPI through host memory (as was asked for)");
}

TEST(SumWay, IsMpiWhereTheLibrariesDoNotFit) {
    EXPECT_EQ(choose({rank(0, "a"), rank(1, "a", 23001)}).text,
              "MPI through host memory (rank 0 found NCCL 2.28.9, rank 1 found 2.30.1)");
    EXPECT_EQ(choose({rank(0, "a"), rank(1, "a", 22005)}).text,
              "MPI through host memory (rank 1 found NCCL 2.20.5, older than 2.28.9, which it was "
              "built with)");
    RankDevice without = rank(1, "a", 0);
    without.nccl_built = 0;
    EXPECT_EQ(choose({rank(0, "a"), without}).text,
              "MPI through host memory (no NCCL is in this build)");
}

}  // namespace
}  // namespace fedit
