// tests/core/build_info_test.cpp: the build knows where it comes from.
#include "fedit/core/build_info.h"

#include <gtest/gtest.h>

#include <string>

namespace fedit {
namespace {

TEST(BuildInfo, HasAVersionOfThreeNumbersAndACommit) {
    const BuildInfo info = build_info();
    int dots = 0;
    for (const char c : info.version) dots += c == '.' ? 1 : 0;
    EXPECT_EQ(dots, 2) << info.version;
    const bool is_hash =
        info.git_commit.size() == 40 &&
        info.git_commit.find_first_not_of("0123456789abcdef") == info.git_commit.npos;
    EXPECT_TRUE(is_hash || info.git_commit == "unknown") << info.git_commit;
}

TEST(BuildInfo, NamesTheCompilerThatBuiltIt) {
    EXPECT_NE(build_info().compiler.find(std::to_string(__GNUC__) + "."), std::string_view::npos)
        << build_info().compiler;
}

}  // namespace
}  // namespace fedit
