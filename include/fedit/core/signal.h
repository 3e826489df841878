// core/signal.h: the request to stop, from a signal, a stop file or a time limit, as one flag.
#pragma once

#include <initializer_list>
#include <memory>

namespace fedit {

/// Why a stop was asked for.
enum class StopReason : int { none = 0, signal = 1, walltime = 2, stop_file = 3 };

/// A flag that long work polls between steps. Copies share the flag; a default one never stops.
class StopToken {
public:
    StopToken();
    bool requested() const noexcept;
    StopReason reason() const noexcept;
    /// The first reason wins; repeated requests change nothing.
    void request(StopReason reason) const noexcept;

private:
    struct Flag;
    std::shared_ptr<Flag> flag_;
    friend class StopSignals;
};

/// Installs handlers that set the token's flag and do nothing else; the destructor restores the
/// previous handlers. At most one object at a time; throws RunError on a second.
class StopSignals {
public:
    StopSignals(StopToken token, std::initializer_list<int> signals);
    ~StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace fedit
