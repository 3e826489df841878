// core/progress.cpp: formats progress and prints it at a bounded rate.
#include "fedit/core/progress.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace fedit {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds live_interval{200};
constexpr milliseconds plain_interval{10'000};

std::string with_thousands(std::int64_t value) {
    std::string digits = std::to_string(value);
    for (std::ptrdiff_t at = std::ssize(digits) - 3; at > 0; at -= 3) {
        digits.insert(static_cast<std::size_t>(at), ",");
    }
    return digits;
}

}  // namespace

std::string format_progress(const ProgressSample& sample) {
    std::string text = fmt::format("round {}/{}", sample.round, sample.rounds);
    if (sample.client >= 0 && sample.cohort > 1) {
        text += fmt::format(" | cohort of {} ({}/{})", sample.cohort, sample.clients_done,
                            sample.clients_here);
    } else if (sample.client >= 0) {
        text += fmt::format(" | client {} ({}/{})", sample.client, sample.clients_done,
                            sample.clients_here);
    } else if (sample.clients_here > 0) {
        text += fmt::format(" | clients {}/{}", sample.clients_done, sample.clients_here);
    }
    if (sample.loss >= 0) text += fmt::format(" | loss {:.3f}", sample.loss);
    if (sample.tokens_per_second >= 0) {
        text +=
            fmt::format(" | {} tokens/s", with_thousands(std::llround(sample.tokens_per_second)));
    }
    if (sample.seconds_left >= 0)
        text += fmt::format(" | {} left", format_duration(sample.seconds_left));
    return text;
}

std::string format_duration(double seconds) {
    constexpr double longest = 1e15;  // keeps llround within its range
    if (!(seconds >= 0 && seconds < longest)) return "unknown";
    const long long whole = std::llround(seconds);
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
    const long long minutes = (whole + 30) / 60;
    return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

std::string format_bytes(std::int64_t bytes) {
    constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes > -1024 && bytes < 1024) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (std::abs(value) >= 1023.95 && unit + 1 < units.size()) {  // 1023.95 prints as 1024.0
        value /= 1024;
        ++unit;
    }
    return fmt::format("{:.1f} {}", value, units[unit]);
}

ProgressLine::ProgressLine(std::ostream& out, ProgressStyle style) : out_(out), style_(style) {}

ProgressLine::~ProgressLine() {
    try {
        clear();
    } catch (const std::exception&) {
        // A broken terminal must not end a run that is done.
    }
}

void ProgressLine::show_text(const std::string& text) {
    if (style_ == ProgressStyle::none) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + (style_ == ProgressStyle::live_line ? live_interval : plain_interval);

    std::string line = "fedit: " + text;
    if (style_ == ProgressStyle::plain_lines) {
        out_ << line + '\n' << std::flush;
        return;
    }
    const std::size_t length = line.size();
    if (length < width_) line.append(width_ - length, ' ');
    width_ = length;
    out_ << '\r' + line << std::flush;
}

void ProgressLine::clear() {
    if (width_ == 0) return;
    out_ << '\r' + std::string(width_, ' ') + '\r' << std::flush;
    width_ = 0;
}

}  // namespace fedit
