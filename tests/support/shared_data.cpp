// tests/support/shared_data.cpp: resolves test data relative to the source tree.
#include "tests/support/shared_data.h"

namespace fedit::test {

namespace fs = std::filesystem;

fs::path source_path(const std::string& relative) {
    return fs::path(FEDIT_SOURCE_DIR) / relative;
}

fs::path shared_path(const std::string& relative) {
    return fs::path(FEDIT_SOURCE_DIR).parent_path() / "shared" / relative;
}

fs::path fresh_folder(const std::string& name) {
    const fs::path folder = fs::absolute(name);
    fs::remove_all(folder);
    fs::create_directories(folder);
    return folder;
}

}  // namespace fedit::test
