// experiment/experiment.h: the main job: rounds of local training and aggregation, with all that
// makes a run survive being killed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"
#include "fedit/core/log.h"
#include "fedit/core/progress.h"
#include "fedit/core/signal.h"
#include "fedit/experiment/config.h"
#include "fedit/io/atomic_file.h"

namespace fedit {

/// What surrounds a command: filled by main, which alone looks at the environment.
struct Context {
    const Communicator& comm;
    Log log;
    ProgressStyle progress = ProgressStyle::none;
    StopToken stop;
    AtomicFile files;
    std::vector<std::string> arguments;              ///< as typed, for run.h5
    std::map<std::string, std::string> environment;  ///< SLURM_JOB_ID and the like, for run.h5
};

/// `fedit train`. Collective. Returns done or stopped; throws otherwise.
ExitCode run_training(const Context& context, Config config);

}  // namespace fedit
