// core/parallel.cpp: loops on OpenMP's threads, which the CPU back end uses too.
#include "fedit/core/parallel.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>

namespace fedit {

namespace {

/// Keeps what the first call in order threw: OpenMP lets nothing out of a loop.
class FirstFault {
public:
    void keep(std::int64_t i) noexcept {
        const std::scoped_lock lock(mutex_);
        if (i >= first_) return;
        first_ = i;
        fault_ = std::current_exception();
    }
    void throw_if_any() const {
        if (fault_ != nullptr) std::rethrow_exception(fault_);
    }

private:
    std::mutex mutex_;
    std::int64_t first_ = std::numeric_limits<std::int64_t>::max();
    std::exception_ptr fault_;
};

/// Large enough that taking a share costs nothing, small enough that no thread waits for another.
constexpr std::size_t copied_at_once = std::size_t{256} << 10;

}  // namespace

void run_parallel(int threads, std::int64_t count, const std::function<void(std::int64_t)>& body) {
    FirstFault fault;
    const auto call = [&](std::int64_t i) noexcept {
        try {
            body(i);
        } catch (...) {
            fault.keep(i);
        }
    };
    const auto useful = static_cast<int>(std::clamp<std::int64_t>(count, 1, std::max(1, threads)));
    if (useful == 1) {
        for (std::int64_t i = 0; i < count; ++i) call(i);
    } else {
#pragma omp parallel for num_threads(useful) schedule(dynamic)
        for (std::int64_t i = 0; i < count; ++i) call(i);
    }
    fault.throw_if_any();
}

void copy_parallel(int threads, std::byte* to, const std::byte* from, std::size_t bytes) {
    if (bytes <= copied_at_once) {  // most copies are small
        if (bytes > 0) std::memcpy(to, from, bytes);
        return;
    }
    const std::size_t shares = (bytes + copied_at_once - 1) / copied_at_once;
    run_parallel(threads, static_cast<std::int64_t>(shares), [&](std::int64_t i) {
        const std::size_t begin = static_cast<std::size_t>(i) * copied_at_once;
        std::memcpy(to + begin, from + begin, std::min(copied_at_once, bytes - begin));
    });
}

}  // namespace fedit
