// tests/comm/communicator_test.cpp: what each collective delivers.
#include <gtest/gtest.h>
#include "tests/support/mpi_test_main.h"
namespace fedit {
namespace {
TEST(Communicator, MaxIsTheLargestValueOfAnyRank) {
    EXPECT_EQ(test::world().max(test::world().rank()), test::world().size() - 1);
}
}  // namespace
}  // namespace fedit
