// experiment/run_lock.cpp: a lock file with host, process and a heartbeat.
#include "fedit/experiment/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "fedit/core/error.h"

namespace fedit {

namespace fs = std::filesystem;
using std::chrono::seconds;

namespace {

constexpr seconds heartbeat{5};
constexpr seconds stale_after{30};

/// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), or 0 if it is
/// gone: tells a process from a later one with the same number.
long long process_start(long pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string text((std::istreambuf_iterator<char>(file)), {});
    const std::size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) return 0;
    std::istringstream fields(text.substr(name_end + 1));
    std::string field;
    for (int i = 3; i <= 22 && fields >> field; ++i) {
        if (i == 3 && (field == "Z" || field == "X")) return 0;
    }
    return field.empty() ? 0 : std::stoll(field);
}

std::string host_name() {
    char name[256] = {};
    return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

struct Holder {
    std::string host;
    long pid = 0;
    long long start = 0;
};

Holder read_holder(const fs::path& path) {
    std::ifstream file(path);
    Holder holder;
    file >> holder.host >> holder.pid >> holder.start;
    return holder;
}

timespec touched_at(const fs::path& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return {};
    return status.st_mtim;
}

bool is_alive(const fs::path& path, const Holder& holder, const Log& log) {
    if (holder.host == host_name())
        return holder.start != 0 && process_start(holder.pid) == holder.start;
    log.warning(
        fmt::format("{} names host {}: watching for up to {} s whether that job still lives",
                    path.string(), holder.host, stale_after.count()));
    const timespec first = touched_at(path);
    const auto end = std::chrono::steady_clock::now() + stale_after;
    while (std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        const timespec now = touched_at(path);
        if (now.tv_sec == 0) return false;
        if (now.tv_sec != first.tv_sec || now.tv_nsec != first.tv_nsec) return true;
    }
    return false;
}

}  // namespace

struct RunLock::Impl {
    fs::path path;
    std::string mine;
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::thread beat;

    void keep_touching() {
        std::unique_lock lock(mutex);
        while (!changed.wait_for(lock, heartbeat, [this] { return done; })) {
            utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
        }
    }
};

RunLock::RunLock(const fs::path& path, Existing existing, const Log& log)
    : impl_(std::make_unique<Impl>()) {
    impl_->path = path;
    impl_->mine = fmt::format("{} {} {}\n", host_name(), getpid(), process_start(getpid()));
    for (int attempt = 0;; ++attempt) {
        const int file = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (file >= 0) {
            const bool whole = write(file, impl_->mine.data(), impl_->mine.size()) ==
                               static_cast<ssize_t>(impl_->mine.size());
            const int error = errno;
            close(file);
            if (whole) break;
            fs::remove(path);
            throw IoError(error,
                          {.what = std::string("cannot write the lock: ") + std::strerror(error),
                           .where = path.string(),
                           .remedy = "free some space"});
        }
        if (errno != EEXIST || attempt == 3) {
            throw IoError(errno,
                          {.what = std::string("cannot make the lock: ") + std::strerror(errno),
                           .where = path.string(),
                           .remedy = "give --output a folder that you may write to"});
        }
        const Holder holder = read_holder(path);
        if (existing == Existing::respect && is_alive(path, holder, log)) {
            throw InputError({.what = "another job works in this folder",
                              .where = fmt::format("{}, held by process {} on {}", path.string(),
                                                   holder.pid, holder.host),
                              .remedy = "wait for it, give another --output, or take over with "
                                        "--force if you know that it is dead"});
        }
        log.warning(fmt::format("{}: removed the stale lock of process {} on {}", path.string(),
                                holder.pid, holder.host));
        fs::remove(path);
    }
    impl_->beat = std::thread([this] { impl_->keep_touching(); });
}

RunLock::~RunLock() {
    {
        const std::lock_guard lock(impl_->mutex);
        impl_->done = true;
    }
    impl_->changed.notify_all();
    impl_->beat.join();
    // A job that took over with --force owns the file now.
    std::ifstream file(impl_->path);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    std::error_code ignored;
    if (text == impl_->mine) fs::remove(impl_->path, ignored);
}

}  // namespace fedit
