// experiment/session.cpp: resolves the machine and loads the base model once a node.
#include "fedit/experiment/session.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"

namespace fedit {

namespace {

/// A rank's own cores where ranks are bound apart, else its share of the node's; the same on all
/// ranks, because the number of threads may decide bits.
int automatic_threads(const Communicator& comm) {
    const Communicator node = comm.node();
    const std::int64_t usable = usable_cores();
    const bool apart = node.sum(usable) <= sysconf(_SC_NPROCESSORS_ONLN);
    const std::int64_t mine = apart ? usable : std::max<std::int64_t>(1, usable / node.size());
    return static_cast<int>(-comm.max(-mine));
}

}  // namespace

int usable_cores() {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
    return std::max(1, CPU_COUNT(&cores));
}

Machine choose_machine(const Config& config, const Communicator& comm) {
    Machine machine;
    const int automatic = automatic_threads(comm);
    machine.threads = config.threads > 0 ? static_cast<int>(config.threads) : automatic;
    if (machine.threads > usable_cores()) {
        throw InputError(
            {.what = fmt::format("a rank may use {} cores, but {} threads are asked for",
                                 usable_cores(), machine.threads),
             .where = fmt::format("--threads {}", machine.threads),
             .remedy = "start with mpirun --bind-to none (or --map-by slot:PE=N), srun "
                       "--cpus-per-task=N, or give a smaller --threads"});
    }
    machine.backend =
        config.device == "cuda" ? make_cuda_backend(0) : make_cpu_backend(machine.threads);
    const DeviceInfo info = machine.backend->info();
    if (config.dtype == "bf16" && !info.bf16) {
        throw InputError(
            {.what = "this device has no fast bf16 products",
             .where = fmt::format("--dtype bf16 on {} ({})", info.model, info.instruction_set),
             .remedy = "give --dtype fp32, or run on a CPU with avx512_bf16 or AMX"});
    }
    machine.dtype =
        config.dtype == "bf16" || (config.dtype == "auto" && info.bf16) ? Dtype::bf16 : Dtype::fp32;
    return machine;
}

BaseModel::BaseModel(const Communicator& comm, const std::filesystem::path& folder,
                     Machine& machine)
    : node_(comm.node()) {
    std::unique_ptr<HfFolder> files;
    // Rank 0 alone speaks of what is wrong with the folder; every node's first rank opens it later.
    comm.together("check the model folder", [&] {
        if (comm.rank() == 0) files = std::make_unique<HfFolder>(folder);
        if (comm.rank() == 0) fingerprint_ = files->fingerprint();
    });
    comm.broadcast(fingerprint_, 0);
    comm.together("open the model folder", [&] {
        if (files == nullptr && node_.rank() == 0) files = std::make_unique<HfFolder>(folder);
    });
    std::string config_text =
        comm.rank() == 0 ? read_text_file(folder / "config.json") : std::string();
    comm.broadcast(config_text, 0);
    config_ = parse_model_config(Json::parse(config_text, (folder / "config.json").string()));

    const WeightPlan plan(config_, *machine.backend, machine.dtype);
    plan_bytes_ = plan.bytes();
    memory_ = std::make_unique<SharedMemory>(node_.share(plan_bytes_));
    comm.together("load the base model", [&] {
        if (memory_->leader()) plan.fill(memory_->bytes(), *files, *machine.backend);
    });
    memory_->seal();
    weights_ = plan.view(memory_->bytes());
}

}  // namespace fedit
