// tests/app/full_disk_main.cpp: the program on a disk that is full whenever it writes a file.
#include <cerrno>

#include "app/program.h"
#include "fedit/core/error.h"

int main(int argc, char** argv) {
    const auto full = [](fedit::WritePoint point, const std::filesystem::path& path) {
        if (point != fedit::WritePoint::created) return;
        throw fedit::IoError(ENOSPC, {.what = "No space left on device",
                                      .where = path.string(),
                                      .remedy = "free some space"});
    };
    return fedit::run_program(argc, argv, fedit::AtomicFile(full));
}
