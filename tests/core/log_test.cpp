// tests/core/log_test.cpp: who speaks, and when.
#include "fedit/core/log.h"

#include <gtest/gtest.h>

#include <sstream>

namespace fedit {
namespace {

std::string all_voices(int rank, Verbosity verbosity) {
    std::ostringstream out;
    const Log log(out, rank, verbosity);
    log.info("info");
    log.detail("detail");
    log.warning("careful");
    log.rank_warning("here");
    return out.str();
}

TEST(Log, RootSpeaksForAllAsLoudAsItIsTold) {
    const std::string warnings = "fedit: warning: careful\nfedit: rank 0: warning: here\n";
    EXPECT_EQ(all_voices(0, Verbosity::quiet), warnings);
    EXPECT_EQ(all_voices(0, Verbosity::normal), "fedit: info\n" + warnings);
    EXPECT_EQ(all_voices(0, Verbosity::verbose), "fedit: info\nfedit: detail\n" + warnings);
}

TEST(Log, OtherRanksOnlyWarnForThemselves) {
    EXPECT_EQ(all_voices(3, Verbosity::verbose), "fedit: rank 3: warning: here\n");
}

}  // namespace
}  // namespace fedit
