// tests/tensor/cuda/host_side_test.cpp: what the CUDA back end decides on the host: which arrays it
// knows, how pinned memory is shared out, how many rows of logits it holds.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/cuda/content_cache.h"
#include "tensor/cuda/half_ring.h"
#include "tensor/cuda/loss_chunks.h"

namespace fedit::cuda {
namespace {

class KnownArrays : public testing::Test {
protected:
    /// Asks for an array of one number, as an operation would; the slot, and whether it was new.
    std::pair<std::size_t, bool> ask(std::int64_t number) {
        const auto [slot, fresh] = cache_.find(std::as_bytes(std::span(&number, 1)));
        if (fresh) cache_.keep(slot);
        return {slot, fresh};
    }
    ContentCache cache_;
};

TEST_F(KnownArrays, AreRecognisedByWhatTheyHold) {
    const std::vector<std::int64_t> first{1, 2, 3}, same{1, 2, 3}, other{1, 2, 4}, shorter{1, 2};
    const auto a = cache_.find(std::as_bytes(std::span(first)));
    EXPECT_TRUE(a.fresh);
    cache_.keep(a.slot);
    const auto b = cache_.find(std::as_bytes(std::span(same)));
    EXPECT_FALSE(b.fresh);
    EXPECT_EQ(b.slot, a.slot);
    EXPECT_TRUE(cache_.find(std::as_bytes(std::span(other))).fresh);
    EXPECT_TRUE(cache_.find(std::as_bytes(std::span(shorter))).fresh);
    EXPECT_TRUE(cache_.find({}).fresh) << "an empty slot is not an empty array";
}

TEST_F(KnownArrays, AChangeOfTheCallersArrayIsSeen) {
    std::vector<std::int64_t> values{1, 2, 3};
    const auto a = cache_.find(std::as_bytes(std::span(values)));
    cache_.keep(a.slot);
    values[1] = 9;
    const auto b = cache_.find(std::as_bytes(std::span(values)));
    EXPECT_TRUE(b.fresh);
    EXPECT_NE(b.slot, a.slot);
}

TEST_F(KnownArrays, TheLeastRecentlyUsedGivesWay) {
    constexpr auto slots = static_cast<std::int64_t>(ContentCache::slots);
    for (std::int64_t i = 0; i < slots; ++i) EXPECT_TRUE(ask(i).second);
    EXPECT_FALSE(ask(0).second);
    const std::size_t slot_of_1 = ask(1).first;
    for (std::int64_t i = 2; i < slots; ++i) EXPECT_FALSE(ask(i).second);
    EXPECT_FALSE(ask(0).second);
    EXPECT_EQ(ask(slots).first, slot_of_1) << "1 was used longest ago";
    EXPECT_FALSE(ask(0).second);
    EXPECT_TRUE(ask(1).second);
}

TEST_F(KnownArrays, WhatCouldNotBeCopiedIsNotKnown) {
    const std::int64_t number = 5;
    EXPECT_TRUE(cache_.find(std::as_bytes(std::span(&number, 1))).fresh);
    EXPECT_TRUE(cache_.find(std::as_bytes(std::span(&number, 1))).fresh) << "without keep()";
}

/// A device that reads as late as it may: a piece counts as read only when its half was waited for.
TEST(PinnedRing, NoPieceIsOverwrittenBeforeItsHalfWasWaitedFor) {
    constexpr std::size_t half = 1024;
    HalfRing ring(half);
    std::vector<bool> unread(2 * half);
    int turns = 0;
    const std::array<std::size_t, 9> wanted{1, 256, 300, 2000, 1024, 7, 512, 5000, 255};
    for (std::size_t i = 0; i < 40; ++i) {
        for (std::size_t left = wanted[i % wanted.size()]; left > 0;) {
            const HalfRing::Piece piece = ring.take(left);
            ASSERT_GT(piece.bytes, 0U);
            ASSERT_LE(piece.bytes, left);
            ASSERT_EQ(piece.offset % 256, 0U);
            ASSERT_EQ(piece.offset / half, piece.half);
            ASSERT_LE(piece.offset + piece.bytes, (piece.half + 1) * half) << "over a half's end";
            if (piece.turned) {
                ++turns;
                std::fill_n(unread.begin() + static_cast<std::ptrdiff_t>(piece.half * half), half,
                            false);
            }
            for (std::size_t byte = piece.offset; byte < piece.offset + piece.bytes; ++byte) {
                ASSERT_FALSE(unread[byte]) << "byte " << byte;
                unread[byte] = true;
            }
            left -= piece.bytes;
        }
    }
    EXPECT_GT(turns, 10);
}

TEST(LossChunks, HoldAllRowsThatFitAndAtLeastOne) {
    EXPECT_EQ(loss_chunk_rows(100, 32000), 100);
    EXPECT_EQ(loss_chunk_rows(100000, 32000), 1024);
    EXPECT_EQ(loss_chunk_rows(100000, 2000), 16768);
    EXPECT_EQ(loss_chunk_rows(3, 1000000000), 1);
    for (const std::int64_t vocab : {1, 7, 8, 32000, 50257, 128256, 151936, 1000000}) {
        const std::int64_t stride = logits_stride(vocab);
        EXPECT_GE(stride, vocab);
        EXPECT_EQ(stride % 8, 0);
        const std::int64_t chunk = loss_chunk_rows(1 << 30, vocab);
        EXPECT_TRUE(chunk == 1 || chunk * stride * 4 <= std::int64_t{1} << 30) << vocab;
        EXPECT_EQ(loss_chunk_bytes(1 << 30, vocab), static_cast<std::size_t>(chunk * stride) * 4);
    }
    EXPECT_EQ(loss_chunk_bytes(10, 7), 10U * 8 * 4);
}

TEST(LossChunks, OfLargeVocabulariesFillACard) {
    for (const std::int64_t vocab : {32000, 50257, 128256, 151936, 256000}) {
        EXPECT_EQ(loss_chunk_rows(100000, vocab), 1024) << vocab;
    }
    EXPECT_EQ(loss_chunk_rows(100000, 600000), 384);
    EXPECT_EQ(loss_chunk_rows(100000, 1000000), 256);
}

}  // namespace
}  // namespace fedit::cuda
