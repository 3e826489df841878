// tests/core/signal_test.cpp: the tests raise the signals themselves.
#include "fedit/core/signal.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "fedit/core/error.h"

namespace fedit {
namespace {

TEST(StopToken, StopsNothingUntilAsked) {
    const StopToken token;
    EXPECT_FALSE(token.requested());
    EXPECT_EQ(token.reason(), StopReason::none);
}

TEST(StopToken, KeepsTheFirstReason) {
    const StopToken token;
    token.request(StopReason::walltime);
    token.request(StopReason::signal);
    EXPECT_EQ(token.reason(), StopReason::walltime);
}

TEST(StopToken, CopiesShareTheFlag) {
    const StopToken token;
    const StopToken copy = token;
    std::thread([copy] { copy.request(StopReason::stop_file); }).join();
    EXPECT_EQ(token.reason(), StopReason::stop_file);
    EXPECT_FALSE(StopToken().requested());
}

TEST(StopSignals, SetTheFlag) {
    for (const int number : {SIGUSR1, SIGTERM, SIGINT}) {
        const StopToken token;
        const StopSignals signals(token, {SIGUSR1, SIGTERM, SIGINT});
        ASSERT_FALSE(token.requested());
        std::raise(number);
        EXPECT_EQ(token.reason(), StopReason::signal) << "signal " << number;
    }
}

TEST(StopSignals, SurviveASecondTerm) {
    const StopToken token;
    const StopSignals signals(token, {SIGTERM});
    std::raise(SIGTERM);
    std::raise(SIGTERM);
    EXPECT_EQ(token.reason(), StopReason::signal);
}

volatile std::sig_atomic_t heard = 0;
void hear(int) {
    heard = heard + 1;
}

TEST(StopSignals, GiveBackThePreviousHandlers) {
    const auto before = std::signal(SIGUSR1, hear);
    const StopToken token;
    {
        const StopSignals signals(token, {SIGUSR1});
        std::raise(SIGUSR1);
        EXPECT_EQ(heard, 0);
    }
    std::raise(SIGUSR1);
    EXPECT_EQ(heard, 1);
    std::signal(SIGUSR1, before);
}

TEST(StopSignals, RunOnAStackOfTheirOwn) {
    stack_t before{};
    ASSERT_EQ(sigaltstack(nullptr, &before), 0);
    {
        const StopSignals signals(StopToken(), {SIGUSR1});
        stack_t now{};
        ASSERT_EQ(sigaltstack(nullptr, &now), 0);
        EXPECT_EQ(now.ss_flags & SS_DISABLE, 0);
        EXPECT_NE(now.ss_sp, before.ss_sp);
        struct sigaction action {};
        ASSERT_EQ(sigaction(SIGUSR1, nullptr, &action), 0);
        EXPECT_NE(action.sa_flags & SA_ONSTACK, 0);
    }
    stack_t after{};
    ASSERT_EQ(sigaltstack(nullptr, &after), 0);
    EXPECT_EQ(after.ss_flags, before.ss_flags);
}

TEST(StopSignals, AreOneAtATime) {
    const StopToken first;
    {
        const StopSignals signals(first, {SIGUSR1});
        EXPECT_THROW(StopSignals(StopToken(), {SIGUSR2}), RunError);
        std::raise(SIGUSR1);  // the refused one has taken nothing away
    }
    EXPECT_TRUE(first.requested());
    EXPECT_NO_THROW(StopSignals(StopToken(), {SIGUSR2}));
}

TEST(StopSignals, RefuseASignalThatCannotBeCaughtAndUndoTheRest) {
    const auto before = std::signal(SIGUSR1, hear);
    heard = 0;
    try {
        const StopSignals signals(StopToken(), {SIGUSR1, SIGKILL});
        ADD_FAILURE() << "SIGKILL was accepted";
    } catch (const RunError& error) {
        EXPECT_STREQ(error.what(),
                     "cannot handle a signal: Invalid argument\n"
                     "  where: signal 9\n"
                     "  do:    choose a signal that can be caught, such as USR1 or TERM");
    }
    std::raise(SIGUSR1);
    EXPECT_EQ(heard, 1);
    std::signal(SIGUSR1, before);
}

}  // namespace
}  // namespace fedit
