// tests/comm/communicator_test.cpp: what each collective delivers, on any number of ranks.
#include "fedit/comm/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "comm/chunk.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

constexpr std::size_t chunk_words = chunk_bytes / sizeof(std::uint64_t);

/// `size` bytes that differ from rank to rank and from place to place.
Bytes pattern(std::size_t size, int rank) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = static_cast<std::byte>((i * 131 + (i >> 16) * 17 + 29 * rank + 1) & 0xFF);
    }
    return bytes;
}

/// Ragged: some ranks have nothing.
std::size_t ragged_size(int rank) {
    return rank % 3 == 1 ? 0 : 1000 * rank + 7;
}

TEST(Communicator, BroadcastsFromEveryRoot) {
    Communicator& comm = test::world();
    for (int root = 0; root < comm.size(); ++root) {
        Bytes bytes = pattern(100, comm.rank());
        comm.broadcast(std::span(bytes), root);
        EXPECT_EQ(bytes, pattern(100, root));
    }
}

TEST(Communicator, BroadcastOfUnknownSizeReplacesLongerAndShorterOnes) {
    Communicator& comm = test::world();
    for (int root = 0; root < comm.size(); ++root) {
        Bytes bytes = pattern(ragged_size(comm.rank()), comm.rank());
        comm.broadcast(bytes, root);
        EXPECT_EQ(bytes, pattern(ragged_size(root), root));

        std::string text(static_cast<std::size_t>(comm.rank()), 'x');
        comm.broadcast(text, root);
        EXPECT_EQ(text, std::string(static_cast<std::size_t>(root), 'x'));
    }
}

TEST(Communicator, SumsWordsModuloTwoToThe64) {
    Communicator& comm = test::world();
    const auto ranks = static_cast<std::uint64_t>(comm.size());
    constexpr std::uint64_t top = std::uint64_t{1} << 63;
    constexpr std::uint64_t all_ones = std::numeric_limits<std::uint64_t>::max();
    std::vector<std::uint64_t> words{top, all_ones, static_cast<std::uint64_t>(comm.rank())};

    comm.sum(std::span(words));

    EXPECT_EQ(words[0], ranks % 2 == 0 ? 0 : top);
    EXPECT_EQ(words[1], 0 - ranks);  // each of them is -1
    EXPECT_EQ(words[2], ranks * (ranks - 1) / 2);
}

TEST(Communicator, SumsVectorsAroundTheSizeOfAChunk) {
    Communicator& comm = test::world();
    const auto ranks = static_cast<std::uint64_t>(comm.size());
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, chunk_words - 1, chunk_words,
                                   chunk_words + 1, 2 * chunk_words + 1}) {
        std::vector<std::uint64_t> words(size);
        for (std::size_t i = 0; i < size; ++i)
            words[i] = i + static_cast<std::uint64_t>(comm.rank());
        comm.sum(std::span(words));
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < size; ++i) {
            if (words[i] != ranks * i + ranks * (ranks - 1) / 2) ++wrong;
        }
        EXPECT_EQ(wrong, 0U) << "of " << size << " words";
    }
}

TEST(Communicator, SumsAndMaximaOfOneValueKeepTheSign) {
    Communicator& comm = test::world();
    EXPECT_EQ(comm.sum(std::int64_t{-3}), -3 * comm.size());
    EXPECT_EQ(comm.max(-5 - comm.rank()), -5);
    EXPECT_EQ(comm.max(comm.rank()), comm.size() - 1);
}

TEST(Communicator, EqualSeesOneRankThatDiffers) {
    Communicator& comm = test::world();
    for (const std::uint64_t value :
         {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
        EXPECT_TRUE(comm.equal(value));
        for (int odd = 0; odd < comm.size() && comm.size() > 1; ++odd) {
            EXPECT_FALSE(comm.equal(comm.rank() == odd ? value + 1 : value)) << "rank " << odd;
        }
    }
}

TEST(Communicator, GathersRaggedAndEmptyMessagesOnEveryRoot) {
    Communicator& comm = test::world();
    const Bytes mine = pattern(ragged_size(comm.rank()), comm.rank());
    for (int root = 0; root < comm.size(); ++root) {
        const std::vector<Bytes> all = comm.gather(mine, root);
        if (comm.rank() != root) {
            EXPECT_TRUE(all.empty());
            continue;
        }
        EXPECT_EQ(all.size(), static_cast<std::size_t>(comm.size()));
        for (int from = 0; from < static_cast<int>(all.size()); ++from) {
            EXPECT_EQ(all[from], pattern(ragged_size(from), from)) << "from rank " << from;
        }
    }
}

TEST(Communicator, AllGathersRaggedAndEmptyMessages) {
    Communicator& comm = test::world();
    const std::vector<Bytes> all = comm.all_gather(pattern(ragged_size(comm.rank()), comm.rank()));
    EXPECT_EQ(all.size(), static_cast<std::size_t>(comm.size()));
    for (int from = 0; from < static_cast<int>(all.size()); ++from) {
        EXPECT_EQ(all[from], pattern(ragged_size(from), from)) << "from rank " << from;
    }
}

TEST(Communicator, GathersNothingAtAll) {
    Communicator& comm = test::world();
    const std::vector<Bytes> none(static_cast<std::size_t>(comm.size()));
    EXPECT_EQ(comm.all_gather({}), none);
    EXPECT_EQ(comm.gather({}, 0), comm.rank() == 0 ? none : std::vector<Bytes>{});
}

TEST(Communicator, SendsMessagesLongerThanAChunk) {
    Communicator& comm = test::world();
    const int last = comm.size() - 1;
    const std::size_t size = comm.rank() == last ? chunk_bytes + 3 : 5;
    const Bytes mine = pattern(size, comm.rank());
    const Bytes longest = pattern(chunk_bytes + 3, last);

    Bytes told = mine;
    comm.broadcast(told, last);
    EXPECT_TRUE(told == longest);  // EXPECT_EQ would print 16 MiB
    const auto gathered = comm.gather(mine, 0);
    if (comm.rank() == 0) {
        EXPECT_TRUE(gathered.back() == longest);
    }
    EXPECT_TRUE(comm.all_gather(mine).back() == longest);
}

TEST(Communicator, NodeHoldsTheRanksOfThisMachineInOrder) {
    Communicator& comm = test::world();
    const Communicator node = comm.node();
    EXPECT_EQ(node.size(), comm.size());  // the test runs on one machine
    EXPECT_EQ(node.rank(), comm.rank());
    EXPECT_EQ(node.sum(std::int64_t{1}), node.size());
}

TEST(Communicator, MovedCommunicatorsStillSpeak) {
    Communicator first = test::world().node();
    Communicator second = std::move(first);
    first = std::move(second);
    EXPECT_EQ(first.sum(std::int64_t{1}), first.size());
    static_assert(!std::is_copy_constructible_v<Communicator>);
    static_assert(std::is_nothrow_move_constructible_v<Communicator>);
}

TEST(Communicator, ManyCollectivesInARowDoNotMix) {
    Communicator& comm = test::world();
    const Communicator node = comm.node();
    for (std::int64_t i = 0; i < 50; ++i) {
        EXPECT_EQ(comm.max(i + comm.rank()), i + comm.size() - 1);
        EXPECT_EQ(node.sum(i), i * comm.size());
    }
}

TEST(MpiSession, NamesTheLibrary) {
    EXPECT_NE(MpiSession::library_version(), "");
}

}  // namespace
}  // namespace fedit
