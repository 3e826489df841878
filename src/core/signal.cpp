// core/signal.cpp: signal handlers that set the flag of one StopToken.
#include "fedit/core/signal.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "fedit/core/error.h"

namespace fedit {

struct StopToken::Flag {
    std::atomic<int> reason{static_cast<int>(StopReason::none)};
};

namespace {

static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not take a lock");

// The one exception to "no globals": a signal handler gets no argument of ours.
std::atomic<std::atomic<int>*> flag_of_handler{nullptr};

void set_reason(std::atomic<int>& flag, StopReason reason) noexcept {
    int none = static_cast<int>(StopReason::none);
    flag.compare_exchange_strong(none, static_cast<int>(reason));
}

extern "C" void fedit_request_stop(int) {
    if (std::atomic<int>* flag = flag_of_handler.load()) set_reason(*flag, StopReason::signal);
}

}  // namespace

StopToken::StopToken() : flag_(std::make_shared<Flag>()) {}

bool StopToken::requested() const noexcept {
    return reason() != StopReason::none;
}

StopReason StopToken::reason() const noexcept {
    return static_cast<StopReason>(flag_->reason.load(std::memory_order_relaxed));
}

void StopToken::request(StopReason reason) const noexcept {
    set_reason(flag_->reason, reason);
}

struct StopSignals::Impl {
    explicit Impl(StopToken stop) : token(std::move(stop)) {
        std::atomic<int>* free = nullptr;
        if (!flag_of_handler.compare_exchange_strong(free, &token.flag_->reason)) {
            throw RunError({.what = "stop signals are handled already",
                            .where = "StopSignals",
                            .remedy = "destroy the first StopSignals before making another"});
        }
    }
    ~Impl() {
        for (auto it = previous.rbegin(); it != previous.rend(); ++it) {
            sigaction(it->first, &it->second, nullptr);
        }
        sigaltstack(&previous_stack, nullptr);
        flag_of_handler.store(nullptr);
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    /// oneDNN's generated products keep data below the stack pointer, where a handler's frame would
    /// overwrite it: the handler gets a stack of its own. Of this thread, which is the first that
    /// the kernel gives a process's signals to.
    void use_own_stack() {
        stack_t own{};
        own.ss_sp = stack.data();
        own.ss_size = stack.size();
        if (sigaltstack(&own, &previous_stack) != 0) {
            throw RunError({.what = std::string("cannot give signal handlers a stack: ") +
                                    std::strerror(errno),
                            .where = "StopSignals",
                            .remedy = "this is a mistake in the program: please report it"});
        }
    }

    void install(int number) {
        struct sigaction action {};
        action.sa_handler = fedit_request_stop;
        action.sa_flags = SA_RESTART | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        struct sigaction old {};
        if (sigaction(number, &action, &old) != 0) {
            throw RunError({.what = std::string("cannot handle a signal: ") + std::strerror(errno),
                            .where = "signal " + std::to_string(number),
                            .remedy = "choose a signal that can be caught, such as USR1 or TERM"});
        }
        previous.emplace_back(number, old);
    }

    StopToken token;
    std::vector<char> stack = std::vector<char>(std::size_t{64} << 10);
    stack_t previous_stack{};
    std::vector<std::pair<int, struct sigaction>> previous;
};

StopSignals::StopSignals(StopToken token, std::initializer_list<int> signals)
    : impl_(std::make_unique<Impl>(std::move(token))) {
    impl_->use_own_stack();
    for (const int number : signals) impl_->install(number);
}

StopSignals::~StopSignals() = default;

}  // namespace fedit
