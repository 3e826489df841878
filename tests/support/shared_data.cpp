// tests/support/shared_data.cpp: resolves test data relative to the source tree.
#include "tests/support/shared_data.h"

#include <cstdlib>

namespace fedit::test {

namespace fs = std::filesystem;

namespace {

/// The source tree, or what was carried to another machine in its stead (tests/gpu).
fs::path root() {
    const char* elsewhere = std::getenv("FEDIT_TEST_ROOT");
    return elsewhere != nullptr ? elsewhere : FEDIT_SOURCE_DIR;
}

}  // namespace

fs::path source_path(const std::string& relative) {
    return root() / relative;
}

fs::path shared_path(const std::string& relative) {
    return root().parent_path() / "shared" / relative;
}

fs::path fresh_folder(const std::string& name) {
    const fs::path folder = fs::absolute(name);
    fs::remove_all(folder);
    fs::create_directories(folder);
    return folder;
}

}  // namespace fedit::test
