// app/bench.h: what `fedit bench` measures where there are several ranks.
#pragma once

#include "fedit/core/error.h"
#include "fedit/experiment/config.h"
#include "fedit/experiment/experiment.h"

namespace fedit {

/// The end of a round with one client a rank: its update is added, summed over the ranks, and the
/// global adapter moves. Collective; the parts are timed on the slowest rank.
ExitCode bench_aggregation(const Context& context, const Config& config);

}  // namespace fedit
