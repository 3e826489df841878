// core/log.h: the program's voice on standard error: once for all ranks, or for this rank.
#pragma once

#include <ostream>
#include <string_view>

namespace fedit {

/// How much is said.
enum class Verbosity : int { quiet = 0, normal = 1, verbose = 2 };

/// Writes whole lines "fedit: ...", flushed. Rank 0 speaks for all; `rank_*` speaks for this rank.
class Log {
public:
    Log(std::ostream& out, int rank, Verbosity verbosity)
        : out_(&out), rank_(rank), verbosity_(verbosity) {}

    void info(std::string_view line) const;          ///< rank 0, from `normal`
    void detail(std::string_view line) const;        ///< rank 0, from `verbose`
    void warning(std::string_view line) const;       ///< rank 0, always
    void rank_warning(std::string_view line) const;  ///< this rank, always, names the rank
    std::ostream& out() const { return *out_; }
    int rank() const { return rank_; }
    Verbosity verbosity() const { return verbosity_; }

private:
    std::ostream* out_;
    int rank_;
    Verbosity verbosity_;
};

}  // namespace fedit
