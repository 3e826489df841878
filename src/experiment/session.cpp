// experiment/session.cpp: resolves the machine and loads the base model once a node or device.
#include "fedit/experiment/session.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "experiment/shared_block.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/io/atomic_file.h"

namespace fedit {

namespace {

/// A rank's own cores where ranks are bound apart, else its share of the node's; the most of all
/// ranks, as run.h5 has one number for them.
int automatic_threads(const Communicator& comm, const Communicator& node) {
    const std::int64_t usable = usable_cores();
    const bool apart = node.sum(usable) <= sysconf(_SC_NPROCESSORS_ONLN);
    const std::int64_t mine = apart ? usable : std::max<std::int64_t>(1, usable / node.size());
    return static_cast<int>(-comm.max(-mine));
}

/// The ranks of a node take its devices in turn.
std::unique_ptr<Backend> choose_backend(const Config& config, const Communicator& comm,
                                        const Communicator& node, int threads) {
    const int devices = config.device == "cpu" ? 0 : cuda_device_count();
    const bool everywhere = comm.max(devices == 0 ? 1 : 0) == 0;
    std::unique_ptr<Backend> backend;
    comm.together("take the device", [&] {
        backend = config.device == "cuda" || everywhere
                      ? make_cuda_backend(devices > 0 ? node.rank() % devices : 0, threads)
                      : make_cpu_backend(threads);
    });
    return backend;
}

/// The whole plan of memory needs the model; that the weights alone fit is known before.
void require_room(const DeviceInfo& device, std::size_t bytes) {
    const auto needed = static_cast<std::int64_t>(bytes) + device.overhead_bytes;
    if (device.host_memory || needed <= device.memory_bytes) return;
    throw InputError({.what = fmt::format("the base model does not fit into the device's memory: "
                                          "it needs {}, and there are {}",
                                          format_bytes(needed), format_bytes(device.memory_bytes)),
                      .where = device.model,
                      .remedy = "give --dtype bf16 or --device cpu, or take a larger device"});
}

/// Shows how much of a model has been read, from two seconds on.
BytesRead show_bytes(ProgressLine* progress, const char* doing, std::int64_t all) {
    if (progress == nullptr) return {};
    using Clock = std::chrono::steady_clock;
    return [=, from = Clock::now() + std::chrono::seconds(2)](std::int64_t done) {
        if (Clock::now() < from) return;
        progress->show_text(fmt::format("{} the base model: {} of {}", doing, format_bytes(done),
                                        format_bytes(all)));
    };
}

}  // namespace

std::int64_t node_memory_bytes() {
    return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) *
           static_cast<std::int64_t>(sysconf(_SC_PAGESIZE));
}

int usable_cores() {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
    return std::max(1, CPU_COUNT(&cores));
}

Machine choose_machine(const Config& config, const Communicator& comm) {
    Machine machine;
    const Communicator node = comm.node();
    const int automatic = automatic_threads(comm, node);
    machine.threads = config.threads > 0 ? static_cast<int>(config.threads) : automatic;
    if (machine.threads > usable_cores()) {
        throw InputError(
            {.what = fmt::format("a rank may use {} cores, but {} threads are asked for",
                                 usable_cores(), machine.threads),
             .where = fmt::format("--threads {}", machine.threads),
             .remedy = "start with mpirun --bind-to none (or --map-by slot:PE=N), srun "
                       "--cpus-per-task=N, or give a smaller --threads"});
    }
    machine.backend = choose_backend(config, comm, node, machine.threads);
    const DeviceInfo info = machine.backend->info();
    if (config.dtype == "bf16" && !info.bf16) {
        throw InputError(
            {.what = "this device has no fast bf16 products",
             .where = fmt::format("--dtype bf16 on {} ({})", info.model, info.instruction_set),
             .remedy = "give --dtype fp32, or run on a CPU with avx512_bf16"});
    }
    machine.dtype =
        config.dtype == "bf16" || (config.dtype == "auto" && info.bf16) ? Dtype::bf16 : Dtype::fp32;
    return machine;
}

BaseModel::BaseModel(const Communicator& comm, const std::filesystem::path& folder,
                     Machine& machine, ProgressLine* progress) {
    std::unique_ptr<HfFolder> files;
    // Rank 0 alone speaks of what is wrong with the folder; others that read it open it later.
    comm.together("check the model folder", [&] {
        if (comm.rank() != 0) return;
        files = std::make_unique<HfFolder>(folder);
        fingerprint_ =
            files->fingerprint(machine.threads, show_bytes(progress, "hashing", files->bytes()));
    });
    comm.broadcast(fingerprint_, 0);
    std::string config_text =
        comm.rank() == 0 ? read_text_file(folder / "config.json") : std::string();
    comm.broadcast(config_text, 0);
    config_ = parse_model_config(Json::parse(config_text, (folder / "config.json").string()));

    const WeightPlan plan(config_, *machine.backend, machine.dtype);
    plan_bytes_ = plan.bytes();
    comm.together("plan the base model's memory",
                  [&] { require_room(machine.backend->info(), plan_bytes_); });
    memory_ = std::make_unique<SharedBlock>(comm.node(), *machine.backend, plan_bytes_);
    comm.together("open the model folder", [&] {
        if (files == nullptr && memory_->leader()) files = std::make_unique<HfFolder>(folder);
    });
    comm.together("load the base model", [&] {
        if (!memory_->leader()) return;
        plan.fill(memory_->bytes(), *files, *machine.backend, machine.threads,
                  show_bytes(comm.rank() == 0 ? progress : nullptr, "loading", files->bytes()));
    });
    if (progress != nullptr) progress->clear();
    memory_->seal();
    weights_ = plan.view(memory_->bytes());
}

BaseModel::~BaseModel() = default;

}  // namespace fedit
