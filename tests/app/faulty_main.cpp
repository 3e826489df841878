// tests/app/faulty_main.cpp: the program with a file writer that dies, loses what was not synced,
// or meets a full disk at the n-th time a named point is reached: FEDIT_TEST_FAULT=kill:renamed:3.
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>

#include "app/program.h"
#include "fedit/core/error.h"

namespace {

namespace fs = std::filesystem;

struct Fault {
    std::string action, point;
    int left = 0;
};

Fault fault_from_environment() {
    const char* text = std::getenv("FEDIT_TEST_FAULT");
    Fault fault;
    if (text == nullptr) return fault;
    std::istringstream parts(text);
    std::getline(parts, fault.action, ':');
    std::getline(parts, fault.point, ':');
    parts >> fault.left;
    return fault;
}

/// What a power cut leaves of files that were written but never synced: nothing.
void lose(const fs::path& path) {
    const std::string unsynced = "." + path.filename().string() + ".fedit-tmp.";
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path.parent_path())) {
        const bool ours = entry.path().string().find(unsynced) != std::string::npos;
        if (ours && entry.is_regular_file()) fs::resize_file(entry.path(), 0);
    }
}

void strike(const Fault& fault, const fs::path& path) {
    if (fault.action == "full") {
        throw fedit::IoError(ENOSPC, {.what = "cannot write: No space left on device",
                                      .where = path.string(),
                                      .remedy = "free some space"});
    }
    if (fault.action == "lose") lose(path);
    kill(getpid(), SIGKILL);
}

}  // namespace

int main(int argc, char** argv) {
    const auto fault = std::make_shared<Fault>(fault_from_environment());
    const fedit::AtomicFile files([fault](fedit::WritePoint point, const fs::path& path) {
        if (fault->left == 0 || to_string(point) != fault->point || --fault->left > 0) return;
        strike(*fault, path);
    });
    return fedit::run_program(argc, argv, files);
}
