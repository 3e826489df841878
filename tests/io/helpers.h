// tests/io/helpers.h: folders as maps, messages of errors, and processes that are killed on the
// way.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"

namespace fedit::test {

inline std::string content_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
}

/// Every entry of a folder, hidden ones too; files with content, folders and symlinks with a mark.
inline std::map<std::string, std::string> entries_of(const std::filesystem::path& folder) {
    std::map<std::string, std::string> entries;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_symlink()) {
            entries[name] = "-> " + std::filesystem::read_symlink(entry.path()).string();
        } else {
            entries[name] = entry.is_directory() ? "folder" : content_of(entry.path());
        }
    }
    return entries;
}

/// The message that `call` throws as an Expected error.
template <class Expected, class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (const Expected& error) {
        return error.what();
    } catch (const std::exception& error) {
        return std::string("another kind of error: ") + error.what();
    }
    return "no error";
}

inline std::vector<std::byte> to_bytes(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

/// Runs `call` in a process of its own. True if it was killed by SIGKILL, false if it ended.
template <class Call>
bool is_killed_in(Call call) {
    const pid_t child = ::fork();
    if (child == 0) {
        call();
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

inline constexpr WritePoint all_points[] = {WritePoint::start,   WritePoint::created,
                                            WritePoint::written, WritePoint::synced,
                                            WritePoint::renamed, WritePoint::folder_synced};

inline WriteHook kill_at(WritePoint wanted) {
    return [wanted](WritePoint point, const std::filesystem::path&) {
        if (point == wanted) ::kill(::getpid(), SIGKILL);
    };
}

inline WriteHook fill_disk_at(WritePoint wanted) {
    return [wanted](WritePoint point, const std::filesystem::path& path) {
        if (point != wanted) return;
        throw IoError(ENOSPC,
                      {.what = "disk full", .where = path.string(), .remedy = "free space"});
    };
}

}  // namespace fedit::test
