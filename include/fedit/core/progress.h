// core/progress.h: what a person watches while a round trains: one live line on a terminal, plain
// lines at intervals in a batch log.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>

namespace fedit {

/// Where progress goes.
enum class ProgressStyle : int { none, live_line, plain_lines };

/// What is known at one moment of a round. Negative: not known, not shown.
struct ProgressSample {
    int round = 0, rounds = 0;               ///< round counts from 1 here
    int clients_done = 0, clients_here = 0;  ///< of this rank's clients in this round
    int client = -1;                         ///< in training; the first of them if several
    int cohort = 1;                          ///< how many train side by side
    double tokens_per_second = -1;
    double loss = -1;
    double seconds_left = -1;
};

/// One line of text for a sample: "round 3/20 | client 7 (2/5) | loss 1.234 | 5,120 tokens/s | 43 s
/// left". Of several clients: "cohort of 4 (8/16)".
std::string format_progress(const ProgressSample& sample);

/// "43 s", "2 min 05 s", "3 h 07 min"; "unknown" if negative or not finite.
std::string format_duration(double seconds);

/// "512 B", "1.5 MiB", "3.2 GiB".
std::string format_bytes(std::int64_t bytes);

/// Prints samples no more often than its interval (0.2 s live, 10 s plain).
class ProgressLine {
public:
    ProgressLine(std::ostream& out, ProgressStyle style);
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void show(const ProgressSample& sample) { show_text(format_progress(sample)); }
    void show_text(const std::string& text);
    /// Removes a live line, so that a whole line can be printed.
    void clear();

private:
    std::ostream& out_;
    ProgressStyle style_;
    std::chrono::steady_clock::time_point next_;
    std::size_t width_ = 0;
};

}  // namespace fedit
