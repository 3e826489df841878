// comm/watchdog.h: finds out who is missing when a collective takes too long.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <list>
#include <vector>

#include "comm/run_state.h"

namespace fedit {

/// Ranks that wait in a collective look here again and again. One whose time is up asks all others
/// "are you in collective n?"; those that wait in it answer when they look; those that do not
/// answer within a second are missing. Nothing is sent as long as nobody's time is up.
class Watchdog {
public:
    Watchdog(MPI_Comm comm, int rank, int size) : comm_(comm), rank_(rank), size_(size) {}

    /// This rank begins to wait in its next collective.
    void begin(const RunState& state);
    /// One look, without blocking. Throws RunError naming phase and missing ranks when the wait is
    /// over `state.hang_limit`.
    void look(const RunState& state);

private:
    using Clock = std::chrono::steady_clock;
    enum class Tag : int { question = 1, answer = 2 };
    enum class Stage { waiting, asking };
    struct Message {
        int rank;
        std::uint64_t collective;
    };
    struct Sending {
        std::uint64_t collective;
        MPI_Request request;
    };

    std::vector<Message> receive(Tag tag);
    void send(Tag tag, int to);
    void answer_questions();
    void ask();
    void forget_sent();
    void give_up_unless_complete(const RunState& state);

    MPI_Comm comm_;
    int rank_;
    int size_;
    std::uint64_t collective_ = 0;
    Clock::time_point started_;
    Clock::time_point next_stage_;
    Stage stage_ = Stage::waiting;
    std::vector<bool> present_;
    std::vector<Message> questions_;
    std::list<Sending> sending_;
};

}  // namespace fedit
