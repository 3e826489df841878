// tests/experiment/run_lock_test.cpp: a folder has one job, and a dead job's lock is no obstacle.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "fedit/core/error.h"
#include "fedit/experiment/run_lock.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using Existing = RunLock::Existing;

class RunLockTest : public testing::Test {
protected:
    fs::path path_ = test::fresh_folder("lock") / "run.lock";
    std::ostringstream said_;
    Log log_{said_, 0, Verbosity::normal};
};

TEST_F(RunLockTest, ExistsWhileHeldAndIsGoneAfterwards) {
    {
        const RunLock lock(path_, Existing::respect, log_);
        EXPECT_TRUE(fs::exists(path_));
    }
    EXPECT_FALSE(fs::exists(path_));
}

TEST_F(RunLockTest, ASecondJobIsRefusedByNameAndTheFirstKeepsItsLock) {
    const RunLock lock(path_, Existing::respect, log_);
    try {
        const RunLock second(path_, Existing::respect, log_);
        FAIL() << "two jobs hold one folder";
    } catch (const InputError& error) {
        const std::string text = error.what();
        EXPECT_NE(text.find("another job works in this folder"), std::string::npos) << text;
        EXPECT_NE(text.find("process " + std::to_string(getpid())), std::string::npos) << text;
        EXPECT_NE(text.find("--force"), std::string::npos) << text;
    }
    EXPECT_TRUE(fs::exists(path_));
}

TEST_F(RunLockTest, TheLockOfAKilledProcessIsTakenOver) {
    const pid_t child = fork();
    if (child == 0) {
        const RunLock lock(path_, Existing::respect, log_);
        _exit(0);
    }
    waitpid(child, nullptr, 0);
    ASSERT_TRUE(fs::exists(path_));
    const RunLock lock(path_, Existing::respect, log_);
    EXPECT_NE(said_.str().find("removed the stale lock of process " + std::to_string(child)),
              std::string::npos);
}

TEST_F(RunLockTest, AnotherProcessWithTheSameNumberIsNotTheHolder) {
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    std::ofstream(path_) << host << ' ' << getpid() << " 1\n";
    const RunLock lock(path_, Existing::respect, log_);
    EXPECT_NE(said_.str().find("removed the stale lock"), std::string::npos);
}

TEST_F(RunLockTest, ALockOfAnotherHostIsWatchedUntilItIsStale) {
    std::ofstream(path_) << "elsewhere 1 1\n";
    const RunLock lock(path_, Existing::respect, log_);
    EXPECT_NE(said_.str().find("names host elsewhere"), std::string::npos) << said_.str();
}

TEST_F(RunLockTest, ForceTakesOverAndTheOldHolderLeavesTheNewLockAlone) {
    auto first = std::make_unique<RunLock>(path_, Existing::respect, log_);
    std::ofstream(path_) << "elsewhere 1 1\n";  // as a job on another host would have taken it over
    first.reset();
    EXPECT_TRUE(fs::exists(path_));
    const RunLock forced(path_, Existing::take_over, log_);
    EXPECT_TRUE(fs::exists(path_));
}

TEST_F(RunLockTest, AFolderThatCannotBeWrittenIsNamed) {
    const fs::path inside_a_file = path_ / "run.lock";
    std::ofstream(path_) << "a file";
    try {
        const RunLock lock(inside_a_file, Existing::respect, log_);
        FAIL();
    } catch (const IoError& error) {
        EXPECT_NE(std::string(error.what()).find(inside_a_file.string()), std::string::npos)
            << error.what();
    }
}

}  // namespace
}  // namespace fedit
