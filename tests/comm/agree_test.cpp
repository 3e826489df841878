// tests/comm/agree_test.cpp: when one rank fails, all ranks throw, with one exit code.
#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>

#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"
#include "tests/support/mpi_test_main.h"

namespace fedit {
namespace {

const std::vector<Fault> two_faults{
    {.what = "alpha is -1", .where = "--alpha", .remedy = "use > 0"},
    {.what = "no data", .where = "--data", .remedy = ""}};

template <class T>
std::exception_ptr failure_if(bool failed, T error) {
    return failed ? std::make_exception_ptr(std::move(error)) : nullptr;
}

struct Outcome {
    ExitCode code;
    std::string text;
};

/// What agree() throws here, if anything.
std::optional<Outcome> outcome_of(std::exception_ptr mine) {
    try {
        test::world().agree(std::move(mine));
    } catch (const Error& error) {
        return Outcome{error.exit_code(), error.what()};
    } catch (const std::exception& error) {
        return Outcome{ExitCode::failure, error.what()};
    }
    return std::nullopt;
}

TEST(Agree, ReturnsWhenNobodyFailed) {
    EXPECT_FALSE(outcome_of(nullptr).has_value());
}

TEST(Agree, AllThrowTheInputErrorOfAnyRankWithAllItsFaults) {
    Communicator& comm = test::world();
    for (int failing = 0; failing < comm.size(); ++failing) {
        try {
            comm.agree(failure_if(comm.rank() == failing, InputError(two_faults)));
            ADD_FAILURE() << "rank " << failing << " failed, nothing was thrown";
        } catch (const InputError& error) {
            EXPECT_EQ(error.exit_code(), ExitCode::bad_input);
            EXPECT_EQ(error.faults().size(), 2U);
            EXPECT_STREQ(error.what(), InputError(two_faults).what());
        }
    }
}

TEST(Agree, TheFailingRankThrowsItsOwnErrorTheOthersOneOfItsKind) {
    Communicator& comm = test::world();
    const IoError full(28, {.what = "disk full", .where = "run.h5", .remedy = "free some"});
    for (int failing = 0; failing < comm.size(); ++failing) {
        try {
            comm.agree(failure_if(comm.rank() == failing, full));
            ADD_FAILURE() << "rank " << failing << " failed, nothing was thrown";
        } catch (const RunError& error) {
            EXPECT_STREQ(error.what(), full.what());
            EXPECT_EQ(dynamic_cast<const IoError*>(&error) != nullptr, comm.rank() == failing);
        }
    }
}

TEST(Agree, OtherExceptionsAreFailuresAtRunTime) {
    Communicator& comm = test::world();
    const int last = comm.size() - 1;
    const auto seen = outcome_of(failure_if(comm.rank() == last, std::runtime_error("torn page")));
    EXPECT_TRUE(seen.has_value());
    EXPECT_EQ(seen.value().code, ExitCode::failure);
    EXPECT_NE(seen.value().text.find("torn page"), std::string::npos);
}

TEST(Agree, AnExceptionOfUnknownTypeIsAFailureToo) {
    Communicator& comm = test::world();
    const bool failing = comm.rank() == 0;
    try {
        comm.agree(failure_if(failing, 42));
        ADD_FAILURE() << "nothing was thrown";
    } catch (const RunError& error) {
        EXPECT_FALSE(failing);
        EXPECT_EQ(error.exit_code(), ExitCode::failure);
    } catch (int number) {
        EXPECT_TRUE(failing);
        EXPECT_EQ(number, 42);
    }
}

TEST(Agree, WhenAllFailEachThrowsItsOwn) {
    Communicator& comm = test::world();
    const std::string mine = "loss is NaN on rank " + std::to_string(comm.rank());
    const auto seen = outcome_of(std::make_exception_ptr(
        RunError({.what = mine, .where = "round 3", .remedy = "lower it"})));
    EXPECT_EQ(seen.value().code, ExitCode::failure);
    EXPECT_NE(seen.value().text.find(mine), std::string::npos);
}

TEST(Agree, FailuresOfSeveralKindsEndWithTheCodeOfTheLowestRank) {
    Communicator& comm = test::world();
    std::exception_ptr mine;
    if (comm.rank() == 0) mine = std::make_exception_ptr(InputError(two_faults));
    if (comm.rank() == 1) {
        mine =
            std::make_exception_ptr(RunError({.what = "lost", .where = "here", .remedy = "look"}));
    }
    const auto seen = outcome_of(mine);
    EXPECT_EQ(seen.value().code, ExitCode::bad_input);
    EXPECT_NE(seen.value().text.find("alpha is -1"), std::string::npos);
    EXPECT_EQ(seen.value().text.find("lost") != std::string::npos, comm.rank() == 1);
}

TEST(Agree, KeepsTheCodeOfAStop) {
    Communicator& comm = test::world();
    const Error stop(ExitCode::stopped,
                     {{.what = "stopped", .where = "round 1", .remedy = "again"}});
    EXPECT_EQ(outcome_of(failure_if(comm.rank() == 0, stop)).value().code, ExitCode::stopped);
}

TEST(Agree, TheRunMayGoOnAfterAnAgreedError) {
    Communicator& comm = test::world();
    EXPECT_TRUE(
        outcome_of(failure_if(comm.rank() == 0, std::runtime_error("try again"))).has_value());
    EXPECT_EQ(comm.sum(std::int64_t{1}), comm.size());
    EXPECT_FALSE(outcome_of(nullptr).has_value());
}

TEST(Together, RunsTheWorkOnEachRankAndThrowsOnAllIfOneFailed) {
    Communicator& comm = test::world();
    int runs = 0;
    comm.together("count", [&] { ++runs; });
    EXPECT_EQ(runs, 1);
    const auto fail_on_last = [&] {
        if (comm.rank() == comm.size() - 1) throw InputError(two_faults);
    };
    EXPECT_THROW(comm.together("fail", fail_on_last), InputError);
}

}  // namespace
}  // namespace fedit
