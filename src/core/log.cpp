// core/log.cpp: each line goes out in one write, so that lines of several ranks do not mix.
#include "fedit/core/log.h"

#include <fmt/format.h>

namespace fedit {
namespace {

void write_line(std::ostream& out, const std::string& line) {
    out << line + '\n' << std::flush;
}

}  // namespace

void Log::info(std::string_view line) const {
    if (rank_ != 0 || verbosity_ < Verbosity::normal) return;
    write_line(*out_, fmt::format("fedit: {}", line));
}

void Log::detail(std::string_view line) const {
    if (rank_ != 0 || verbosity_ < Verbosity::verbose) return;
    write_line(*out_, fmt::format("fedit: {}", line));
}

void Log::warning(std::string_view line) const {
    if (rank_ != 0) return;
    write_line(*out_, fmt::format("fedit: warning: {}", line));
}

void Log::rank_warning(std::string_view line) const {
    write_line(*out_, fmt::format("fedit: rank {}: warning: {}", rank_, line));
}

}  // namespace fedit
