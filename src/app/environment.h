// app/environment.h: what the launcher left in the environment; nothing below app looks there.
#pragma once

#include <map>
#include <string>

namespace fedit {

using Environment = std::map<std::string, std::string>;

/// The variables of Slurm, MPI and OpenMP that say how this process was started; absent ones are
/// left out.
Environment launch_environment();

/// Whether a launcher (mpirun, srun) started this process, so that it may be one of several ranks.
bool is_launched(const Environment& environment);

/// Throws InputError if Slurm started several tasks but each is an MPI world of its own: all would
/// train the same run into the same folder.
void check_launch(const Environment& environment, int world_size);

}  // namespace fedit
