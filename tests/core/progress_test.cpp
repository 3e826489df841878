// tests/core/progress_test.cpp: how progress, durations and sizes read.
#include "fedit/core/progress.h"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace fedit {
namespace {

TEST(FormatProgress, ShowsAllThatIsKnown) {
    const ProgressSample sample{.round = 3,
                                .rounds = 20,
                                .clients_done = 2,
                                .clients_here = 5,
                                .client = 7,
                                .tokens_per_second = 5120.4,
                                .loss = 1.2341,
                                .seconds_left = 125};
    EXPECT_EQ(format_progress(sample),
              "round 3/20 | client 7 (2/5) | loss 1.234 | 5,120 tokens/s | 2 min 05 s left");
}

TEST(FormatProgress, LeavesOutWhatIsNotKnown) {
    EXPECT_EQ(format_progress({.round = 1, .rounds = 2}), "round 1/2");
    EXPECT_EQ(format_progress({.round = 1, .rounds = 2, .clients_done = 1, .clients_here = 4}),
              "round 1/2 | clients 1/4");
}

TEST(FormatProgress, SaysHowManyTrainSideBySide) {
    EXPECT_EQ(format_progress({.round = 1,
                               .rounds = 2,
                               .clients_done = 8,
                               .clients_here = 16,
                               .client = 3,
                               .cohort = 4}),
              "round 1/2 | cohort of 4 (8/16)");
}

TEST(FormatProgress, GroupsThousands) {
    const auto rate = [](double tokens) {
        const std::string text = format_progress({.tokens_per_second = tokens});
        return text.substr(text.find("| ") + 2);
    };
    EXPECT_EQ(rate(0), "0 tokens/s");
    EXPECT_EQ(rate(999), "999 tokens/s");
    EXPECT_EQ(rate(1000), "1,000 tokens/s");
    EXPECT_EQ(rate(1234567), "1,234,567 tokens/s");
}

TEST(FormatDuration, RollsOverAtEachUnit) {
    EXPECT_EQ(format_duration(0), "0 s");
    EXPECT_EQ(format_duration(43.4), "43 s");
    EXPECT_EQ(format_duration(59.6), "1 min 00 s");
    EXPECT_EQ(format_duration(125), "2 min 05 s");
    EXPECT_EQ(format_duration(3599), "59 min 59 s");
    EXPECT_EQ(format_duration(3 * 3600 + 7 * 60 + 10), "3 h 07 min");
    EXPECT_EQ(format_duration(7199), "2 h 00 min");
}

TEST(FormatDuration, KnowsWhatItCannotTell) {
    EXPECT_EQ(format_duration(-1), "unknown");
    EXPECT_EQ(format_duration(std::numeric_limits<double>::quiet_NaN()), "unknown");
    EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "unknown");
}

TEST(FormatBytes, UsesBinaryUnits) {
    EXPECT_EQ(format_bytes(0), "0 B");
    EXPECT_EQ(format_bytes(512), "512 B");
    EXPECT_EQ(format_bytes(1024), "1.0 KiB");
    EXPECT_EQ(format_bytes(3 * 512 * 1024), "1.5 MiB");
    EXPECT_EQ(format_bytes(1024 * 1024 - 1), "1.0 MiB");
    EXPECT_EQ(format_bytes(std::int64_t{16} << 38), "4.0 TiB");
    EXPECT_EQ(format_bytes(std::numeric_limits<std::int64_t>::max()), "8.0 EiB");
    EXPECT_EQ(format_bytes(-2048), "-2.0 KiB");
}

TEST(ProgressLine, PrintsTheFirstSampleAndThenWaitsForItsInterval) {
    std::ostringstream out;
    ProgressLine line(out, ProgressStyle::plain_lines);
    for (int i = 1; i <= 100; ++i) line.show({.round = i, .rounds = 100});
    EXPECT_EQ(out.str(), "fedit: round 1/100\n");
}

TEST(ProgressLine, ShowsAnyText) {
    std::ostringstream out;
    ProgressLine(out, ProgressStyle::plain_lines).show_text("hashing: 1 of 2");
    EXPECT_EQ(out.str(), "fedit: hashing: 1 of 2\n");
}

TEST(ProgressLine, RemovesALiveLineWhenItGoes) {
    std::ostringstream out;
    {
        ProgressLine line(out, ProgressStyle::live_line);
        line.show({.round = 1, .rounds = 2});
        EXPECT_EQ(out.str(), "\rfedit: round 1/2");
    }
    EXPECT_EQ(out.str(), "\rfedit: round 1/2\r" + std::string(16, ' ') + "\r");
}

TEST(ProgressLine, IsSilentOnRequest) {
    std::ostringstream out;
    {
        ProgressLine line(out, ProgressStyle::none);
        line.show({.round = 1, .rounds = 2});
    }
    EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace fedit
