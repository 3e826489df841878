// tests/support/mpi_test_main.h: the ranks that a parallel test runs on.
#pragma once

#include "fedit/comm/communicator.h"

namespace fedit::test {

/// All ranks of the test program. An exception that leaves a test ends the program on all ranks, so
/// none waits for the one that threw.
Communicator& world();

}  // namespace fedit::test
