// tests/comm/waiting_test.cpp: a rank that waits for another leaves its core to others.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <thread>

#include "fedit/comm/communicator.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

double processor_seconds() {
    rusage usage{};
    EXPECT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(Waiting, TakesLittleProcessorTimeInEveryCollective) {
    Communicator& comm = test::world();
    comm.barrier();
    const double before = processor_seconds();
    if (comm.rank() == 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    EXPECT_EQ(comm.max(comm.rank()), comm.size() - 1);
    if (comm.rank() == comm.size() - 1) std::this_thread::sleep_for(std::chrono::seconds(1));
    comm.agree(nullptr);
    // A rank that spins takes a second or two; one that sleeps, some hundredths.
    EXPECT_LT(processor_seconds() - before, 0.3);
}

}  // namespace
}  // namespace fedit
