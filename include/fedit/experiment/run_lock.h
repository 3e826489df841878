// experiment/run_lock.h: one job a folder.
#pragma once

#include <filesystem>
#include <memory>

#include "fedit/core/log.h"

namespace fedit {

/// Holds `path` (run.lock) while it lives and touches it every few seconds. A lock is stale when
/// its process on this host is gone, or when nobody touches it for 30 s; a lock of another host is
/// watched that long. Throws InputError naming host and process if another job holds it.
class RunLock {
public:
    /// How an existing lock that looks alive is treated.
    enum class Existing { respect, take_over };
    RunLock(const std::filesystem::path& path, Existing existing, const Log& log);
    ~RunLock();
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
