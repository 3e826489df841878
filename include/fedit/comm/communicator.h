// comm/communicator.h: the ranks of a run and what they say to each other. Wraps MPI; one process
// without mpirun is a world of one rank.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/comm/message.h"
#include "fedit/comm/shared_memory.h"

namespace fedit {

struct RunState;

/// Gets a part of a sum of words.
using UseWords = std::function<void(std::span<const std::uint64_t>)>;

/// Initialises MPI (FUNNELED: only the main thread communicates) and finalizes it when main
/// returns. While an exception unwinds the destructor skips MPI_Finalize, which is collective.
/// Throws RunError if MPI cannot start. Whether the launcher started as many tasks as there are
/// ranks is for main to compare: it knows the environment.
class MpiSession {
public:
    MpiSession(int& argc, char**& argv);
    ~MpiSession();
    MpiSession(const MpiSession&) = delete;
    MpiSession& operator=(const MpiSession&) = delete;

    /// Who holds the error that ends this run: all ranks, if agree() of the world's communicator
    /// threw it and no collective was entered since; else perhaps this rank alone, while others
    /// wait for it. What all hold is printed by root, and all return; what one holds it prints, and
    /// calls abort().
    bool all_ranks_hold_the_error() const;
    /// Ends all ranks with `code`; prints nothing; does not return.
    [[noreturn]] void abort(int code) const;
    /// "Open MPI v4.1.4 ..."
    static std::string library_version();

private:
    friend class Communicator;
    std::shared_ptr<RunState> state_;
};

/// Every member is collective (all ranks of the communicator call it, in the same order) unless it
/// says otherwise. Waiting ranks poll and sleep, so they burn no core. A failed MPI call is a
/// RunError. The destructor is collective too, but lets go without the call while an exception
/// unwinds.
class Communicator {
public:
    /// All ranks of the run.
    static Communicator world(const MpiSession& session);
    ~Communicator();
    Communicator(Communicator&&) noexcept;
    Communicator& operator=(Communicator&&) noexcept;

    int rank() const;  ///< not collective
    int size() const;  ///< not collective
    /// The ranks that share this node's memory, in the order of their ranks here.
    Communicator node() const;
    /// The ranks that give the same key as this one, in the order of their ranks here.
    Communicator alike(std::string_view key) const;

    void barrier() const;
    /// Sizes are equal on all ranks.
    void broadcast(std::span<std::byte> bytes, int root) const;
    /// Sizes need not be known: root's bytes replace everyone's.
    void broadcast(Bytes& bytes, int root) const;
    void broadcast(std::string& text, int root) const;
    /// Sum modulo 2^64 over all ranks, in place, in parts that fit into caches; `use` is called
    /// with each part, in order, as soon as it is summed. It must not throw.
    void sum(std::span<std::uint64_t> words, const UseWords& use = {}) const;
    std::int64_t sum(std::int64_t value) const;
    std::int64_t max(std::int64_t value) const;
    /// True on all ranks if the value is the same on all ranks.
    bool equal(std::uint64_t value) const;
    /// On root what each rank gave, by rank; empty off root.
    std::vector<Bytes> gather(std::span<const std::byte> mine, int root) const;
    std::vector<Bytes> all_gather(std::span<const std::byte> mine) const;
    /// Memory shared by the ranks of this communicator, which must be one node's; `bytes` is equal
    /// on all. Checks the free space of the backing folder first; IoError names size and folder.
    SharedMemory share(std::size_t bytes) const;

    /// Ends a phase: pass std::current_exception() or nullptr. If any rank failed, all throw: the
    /// failing ranks their own error, the others an error with the first failing rank's exit code
    /// and faults. A failing rank whose own exit code differs from the first one's throws the first
    /// one's faults with its own behind them. So all ranks end with the same code, and none waits
    /// for another.
    void agree(std::exception_ptr mine) const;
    /// Names the phase, runs `work` and then agrees on its outcome.
    void together(std::string_view phase, const std::function<void()>& work) const;

    /// A rank that waits longer in a collective throws RunError, naming phase and missing ranks; it
    /// is to end the run by MpiSession::abort. 0 (the default): never. Holds for all communicators
    /// of the session; not collective, but every rank should be told.
    void set_hang_timeout(std::chrono::seconds limit);
    std::chrono::seconds hang_timeout() const;  ///< not collective
    void phase(std::string_view name) const;    ///< for that message; not collective

private:
    friend class SharedMemory;
    struct Impl;
    explicit Communicator(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace fedit
