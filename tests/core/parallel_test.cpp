// tests/core/parallel_test.cpp: every call is made once, and the first fault is told.
#include "fedit/core/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

namespace fedit {
namespace {

TEST(RunParallel, CallsEachOnceOnAnyNumberOfThreads) {
    for (const int threads : {-1, 1, 2, 7}) {
        for (const std::int64_t count : {0, 1, 5, 100}) {
            std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
            run_parallel(threads, count, [&](std::int64_t i) { ++calls.at(std::size_t(i)); });
            for (const auto& n : calls) EXPECT_EQ(n, 1);
        }
    }
}

TEST(RunParallel, ThrowsWhatTheFirstInOrderThrewOnceAllAreDone) {
    for (const int threads : {1, 3}) {
        std::atomic<int> calls = 0;
        try {
            run_parallel(threads, 50, [&](std::int64_t i) {
                ++calls;
                if (i % 20 == 13) throw std::runtime_error(std::to_string(i));
            });
            FAIL() << "nothing was thrown";
        } catch (const std::runtime_error& error) {
            EXPECT_STREQ(error.what(), "13");
        }
        EXPECT_EQ(calls, 50);
    }
}

TEST(CopyParallel, CopiesAnyNumberOfBytes) {
    for (const std::size_t bytes : {0U, 1U, (256U << 10), (256U << 10) + 1, (1U << 20) + 13}) {
        std::vector<std::byte> from(bytes), to(bytes);
        for (std::size_t i = 0; i < bytes; ++i) from[i] = static_cast<std::byte>(i * 7 + i / 256);
        copy_parallel(3, to.data(), from.data(), bytes);
        EXPECT_TRUE(from == to) << bytes;
    }
}

}  // namespace
}  // namespace fedit
