// experiment/report.h: what a run says to the person who started it.
#pragma once

#include <string>

#include "experiment/setup.h"
#include "fedit/core/log.h"
#include "fedit/core/signal.h"

namespace fedit {

/// Creates the output folder and its sub-folders. Throws InputError or IoError naming the folder.
void make_output_folder(const RunFolder& folder);

/// "before round 1: evaluation loss 5.97 nats".
std::string start_line(const RoundRow& before);
/// "round 3/20: train loss 1.83, evaluation loss 1.91 nats | 5 clients, ...".
std::string round_line(const RoundRow& row, std::int64_t rounds);

/// Before the first round: model, clients, adapter, memory.
void report_plan(const Log& log, Setup& setup, int ranks);
/// --dry-run: who holds what, disk, bytes a round, time to expect.
void report_dry_run(const Log& log, Setup& setup, int ranks);
/// At the end: what was reached, where everything is, what to run next.
void report_end(const Log& log, Setup& setup, const RunFolder& folder, ExitCode code,
                StopReason reason, double seconds);

}  // namespace fedit
