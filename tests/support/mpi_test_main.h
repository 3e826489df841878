// tests/support/mpi_test_main.h: the ranks that a parallel test runs on.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "fedit/comm/communicator.h"

namespace fedit::test {

/// All ranks of the test program. An exception that leaves a test ends the program on all ranks, so
/// none waits for the one that threw.
Communicator& world();

/// A new empty folder of this test that all ranks see, which rank 0 makes and fills. Collective.
std::filesystem::path folder_of_ranks(
    const std::string& name, const std::function<void(const std::filesystem::path&)>& fill = {});

}  // namespace fedit::test
