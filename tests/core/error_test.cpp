// tests/core/error_test.cpp: the one form of an error message.
#include "fedit/core/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <string_view>

namespace fedit {
namespace {

TEST(Error, TellsWhatWhereAndWhatToDo) {
    const InputError error({.what = "rope type \"longrope\" is not supported",
                            .where = "models/phi/config.json, field rope_scaling.rope_type",
                            .remedy = "supported: default, linear, llama3"});
    EXPECT_STREQ(error.what(),
                 "rope type \"longrope\" is not supported\n"
                 "  where: models/phi/config.json, field rope_scaling.rope_type\n"
                 "  do:    supported: default, linear, llama3");
}

TEST(Error, ListsAllFaultsInOrder) {
    const InputError error({Fault{.what = "first", .where = "a.json", .remedy = "mend a"},
                            Fault{.what = "second", .where = "b.json", .remedy = "mend b"}});
    EXPECT_STREQ(error.what(),
                 "first\n  where: a.json\n  do:    mend a\n"
                 "second\n  where: b.json\n  do:    mend b");
    ASSERT_EQ(error.faults().size(), 2U);
    EXPECT_EQ(error.faults()[1].where, "b.json");
}

TEST(Error, LeavesOutALineWithoutText) {
    EXPECT_STREQ(RunError({.what = "lost", .where = "", .remedy = "run again"}).what(),
                 "lost\n  do:    run again");
    EXPECT_STREQ(RunError({.what = "lost", .where = "", .remedy = ""}).what(), "lost");
}

TEST(Error, CommandsNoTerminal) {
    const InputError error({.what = "\"\x1b[2Jnone\x7f\r\" is not a setting",
                            .where = "caf\xc3\xa9.ini, line 1",
                            .remedy = "first\n\tsecond"});
    EXPECT_STREQ(error.what(),
                 "\"\\x1b[2Jnone\\x7f\\x0d\" is not a setting\n  where: caf\xc3\xa9.ini, line 1\n"
                 "  do:    first\n\tsecond");
}

TEST(Error, CutsATextWithoutEnd) {
    const std::string text(1'000'000, 'x');
    const InputError error({.what = text, .where = "a.json", .remedy = "mend a"});
    EXPECT_LT(std::string_view(error.what()).size(), 3000U);
    EXPECT_TRUE(
        std::string_view(error.what()).ends_with("x ...\n  where: a.json\n  do:    mend a"));
}

TEST(Error, EveryKindHasItsExitCode) {
    const Fault fault{.what = "x", .where = "y", .remedy = "z"};
    EXPECT_EQ(InputError(fault).exit_code(), ExitCode::bad_input);
    EXPECT_EQ(RunError(fault).exit_code(), ExitCode::failure);
    EXPECT_EQ(ShapeError(fault).exit_code(), ExitCode::failure);
    EXPECT_EQ(IoError(ENOSPC, fault).exit_code(), ExitCode::failure);
    EXPECT_EQ(IoError(ENOSPC, fault).error_number(), ENOSPC);
    EXPECT_EQ(static_cast<int>(ExitCode::bad_input), 2);
    EXPECT_EQ(static_cast<int>(ExitCode::stopped), 75);
}

}  // namespace
}  // namespace fedit
