// app/environment.cpp: reads the launcher's variables.
#include "app/environment.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::array variables{
    "SLURM_JOB_ID",         "SLURM_JOB_NAME",       "SLURM_NTASKS",         "SLURM_STEP_ID",
    "SLURM_STEP_NUM_TASKS", "SLURM_NNODES",         "SLURM_JOB_NODELIST",   "SLURM_RESTART_COUNT",
    "SLURM_ARRAY_JOB_ID",   "SLURM_ARRAY_TASK_ID",  "SLURM_CPUS_PER_TASK",  "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",      "OMPI_COMM_WORLD_SIZE", "CUDA_VISIBLE_DEVICES",
};

bool in_step(const Environment& environment) {
    return environment.count("SLURM_STEP_ID") > 0;
}

bool by_mpirun(const Environment& environment) {
    return environment.count("OMPI_COMM_WORLD_SIZE") > 0;
}

}  // namespace

Environment launch_environment() {
    Environment found;
    for (const char* name : variables) {
        if (const char* value = std::getenv(name)) found.emplace(name, value);
    }
    return found;
}

bool is_launched(const Environment& environment) {
    return in_step(environment) || by_mpirun(environment);
}

void check_launch(const Environment& environment, int world_size) {
    if (world_size != 1 || !in_step(environment) || by_mpirun(environment)) return;
    const bool of_step = environment.count("SLURM_STEP_NUM_TASKS") > 0;
    const char* name = of_step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    const auto tasks = environment.find(name);
    if (tasks == environment.end() || std::atoi(tasks->second.c_str()) <= 1) return;
    throw InputError(
        {.what = fmt::format("Slurm started {} tasks, but MPI sees one rank: the tasks "
                             "do not know of each other",
                             tasks->second),
         .where = fmt::format("{}={}, MPI world size 1", name, tasks->second),
         .remedy = "start it with srun --mpi=pmix (srun --mpi=list shows what Slurm "
                   "has), or with mpirun inside the job"});
}

}  // namespace fedit
