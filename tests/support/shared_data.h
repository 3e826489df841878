// tests/support/shared_data.h: where tests find data: the real data beside the project, and what it
// ships.
#pragma once

#include <filesystem>
#include <string>

namespace fedit::test {

/// `relative` inside the folder `shared` beside the project's root.
std::filesystem::path shared_path(const std::string& relative);

/// `relative` inside the project's root.
std::filesystem::path source_path(const std::string& relative);

/// A new empty folder of this test, below the working folder; an old one of that name is removed.
std::filesystem::path fresh_folder(const std::string& name);

}  // namespace fedit::test

/// Skips the current test, naming the path, where shared data is absent.
#define FEDIT_REQUIRE_SHARED(path)                                              \
    do {                                                                        \
        if (!std::filesystem::exists(path)) GTEST_SKIP() << "absent: " << path; \
    } while (false)
