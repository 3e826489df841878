// app/doctor.cpp: `fedit doctor`: what the ranks of this launch find on their machines, and what
// would slow or stop a run.
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "app/commands.h"
#include "app/environment.h"
#include "fedit/comm/device_sum.h"
#include "fedit/core/build_info.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/session.h"
#include "fedit/io/json.h"
#include "fedit/tensor/backend.h"
#include "fedit/tensor/cuda_devices.h"
#include "fedit/tensor/machine_rate.h"

namespace fedit {
namespace {

constexpr std::int64_t small_shared_memory = std::int64_t{1} << 30;

/// What one rank sees.
struct RankView {
    std::int64_t node = 0;          ///< rank here of the node's first rank
    std::int64_t usable_cores = 0;  ///< in this rank's affinity mask
    std::int64_t machine_cores = 0;
    std::int64_t memory = 0, memory_free = 0;  ///< bytes
    std::int64_t shared_free = 0;              ///< bytes free in /dev/shm
    std::int64_t gpus = 0;                     ///< that this rank may use
    std::int64_t gpu = -1;                     ///< the one that it would take; -1: none
};

/// A line of /proc/meminfo, in bytes; 0 if it is not there.
std::int64_t meminfo(const std::string& name) {
    std::ifstream in("/proc/meminfo");
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::string key;
        std::int64_t kibibytes = 0;
        if (fields >> key >> kibibytes && key == name + ":") return kibibytes * 1024;
    }
    return 0;
}

std::int64_t free_bytes(const char* folder) {
    struct statvfs stat {};
    if (statvfs(folder, &stat) != 0) return 0;
    return static_cast<std::int64_t>(stat.f_bavail) * static_cast<std::int64_t>(stat.f_frsize);
}

RankView look(const Communicator& comm, const Communicator& node) {
    RankView view;
    std::string first = std::to_string(comm.rank());
    node.broadcast(first, 0);
    view.node = std::stoll(first);
    view.usable_cores = usable_cores();
    view.machine_cores = std::thread::hardware_concurrency();
    view.memory = meminfo("MemTotal");
    view.memory_free = meminfo("MemAvailable");
    view.shared_free = free_bytes("/dev/shm");
    view.gpus = cuda_device_count();
    if (view.gpus > 0) view.gpu = node.rank() % view.gpus;
    return view;
}

/// What all ranks see together, and what rank 0 measured.
struct Findings {
    std::vector<RankView> ranks;
    std::int64_t nodes = 0;
    DeviceInfo cpu;
    CudaDevices cuda;
    std::optional<double> product_rate;  ///< FLOP/s, fp32
    std::vector<std::string> advice;
};

std::vector<std::string> advise(const Findings& findings, const Environment& environment) {
    std::vector<std::string> advice;
    const RankView& first = findings.ranks.front();
    const std::int64_t ranks_here =
        std::count_if(findings.ranks.begin(), findings.ranks.end(),
                      [&](const RankView& view) { return view.node == first.node; });
    if (first.usable_cores * ranks_here < first.machine_cores) {
        advice.push_back(fmt::format(
            "the {} rank(s) of this node may use {} core(s) each, so of {} cores some lie idle "
            "(mpirun binds a rank to one core by default): mpirun --bind-to none -n {}, or "
            "--map-by "
            "slot:PE=CORES",
            ranks_here, first.usable_cores, first.machine_cores, findings.ranks.size()));
    }
    if (first.shared_free < small_shared_memory) {
        advice.push_back(fmt::format(
            "/dev/shm has {} free, and the ranks of a node keep the base model there: enlarge it "
            "(mount -o remount,size=8G /dev/shm) or export OMPI_MCA_osc_sm_backing_directory=DIR",
            format_bytes(first.shared_free)));
    }
    const auto policy = environment.find("OMP_WAIT_POLICY");
    const bool spins = policy == environment.end() || policy->second != "passive";
    double load = 0;
    if (spins && getloadavg(&load, 1) == 1 && load > static_cast<double>(first.machine_cores)) {
        advice.push_back(
            fmt::format("other programs keep this machine's {} cores busy (load {:.0f}): a rank "
                        "with several threads is slow there unless waiting threads sleep: export "
                        "OMP_WAIT_POLICY=passive",
                        first.machine_cores, load));
    }
    const auto asked = environment.find("SLURM_CPUS_PER_TASK");
    if (asked != environment.end() && std::to_string(first.usable_cores) != asked->second) {
        advice.push_back(fmt::format(
            "the job asked for {} cores a task and this rank may use {}: srun does not inherit "
            "--cpus-per-task, so export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
            asked->second, first.usable_cores));
    }
    if (first.gpus > 0 && first.gpus < ranks_here) {
        advice.push_back(
            fmt::format("rank 0 sees {} GPU(s), and its node has {} ranks: they share, and sum "
                        "through host memory. Start a rank a GPU; under Slurm ask for "
                        "--gpus-per-node, not --gpus-per-task, which hides the others' GPUs",
                        first.gpus, ranks_here));
    }
    return advice;
}

/// One line for each GPU, or why there is none; and what drives them.
std::string gpu_lines(const CudaDevices& cuda) {
    std::string text;
    for (std::size_t i = 0; i < cuda.devices.size(); ++i) {
        const auto& [gpu, processors] = cuda.devices[i];
        text += fmt::format("GPU {:<6} {}, {}, {} processors, {}, bus {}, bf16 {}\n", i, gpu.model,
                            gpu.instruction_set, processors, format_bytes(gpu.memory_bytes),
                            gpu.bus_id, gpu.bf16 ? "fast" : "missing: too old for fedit");
    }
    if (cuda.devices.empty()) text = fmt::format("GPU        none: {}\n", cuda.trouble);
    if (!cuda.libraries.empty()) {
        text += fmt::format("CUDA       {}; {}\n", cuda.libraries,
                            cuda.driver.empty() ? "no driver" : "driver for CUDA " + cuda.driver);
    }
    return text;
}

/// Which GPU of its node each rank would take; nothing where no rank sees one.
std::string rank_line(const Findings& findings) {
    std::string text;
    for (std::size_t rank = 0; rank < findings.ranks.size(); ++rank) {
        const RankView& view = findings.ranks[rank];
        if (view.gpu < 0) continue;
        text += fmt::format("{} rank {} takes GPU {} of {}", text.empty() ? "" : ",", rank,
                            view.gpu, view.gpus);
    }
    return text.empty() ? text : "devices   " + text + '\n';
}

std::string to_text(const Findings& findings) {
    const RankView& first = findings.ranks.front();
    const BuildInfo build = build_info();
    std::string text = fmt::format(
        "fedit      {}, commit {}{}, {}, {}\n"
        "MPI        {}\n"
        "ranks      {} on {} node{}\n"
        "processor  {}, instruction set {}\n"
        "cores      {} usable by rank 0 of {}\n"
        "memory     {}, {} available\n"
        "/dev/shm   {} free\n"
        "products   {}, bf16 {}\n"
        "{}"
        "{}"
        "NCCL       {}\n",
        build.version, build.git_commit, build.git_dirty ? " (changed since)" : "", build.compiler,
        build.build_type, MpiSession::library_version(), findings.ranks.size(), findings.nodes,
        findings.nodes == 1 ? "" : "s", findings.cpu.model, findings.cpu.instruction_set,
        first.usable_cores, first.machine_cores, format_bytes(first.memory),
        format_bytes(first.memory_free), format_bytes(first.shared_free), findings.cpu.libraries,
        findings.cpu.bf16 ? "fast" : "not fast here: use --dtype fp32", gpu_lines(findings.cuda),
        rank_line(findings), nccl_library());
    if (findings.product_rate) {
        text += fmt::format("measured   {:.1f} GFLOP/s in fp32 products with {} thread{}\n",
                            *findings.product_rate * 1e-9, first.usable_cores,
                            first.usable_cores == 1 ? "" : "s");
    }
    text += findings.advice.empty() ? "\nNothing stands in the way of a run.\n" : "\n";
    for (const std::string& advice : findings.advice) text += "warning: " + advice + '\n';
    return text;
}

std::string to_json(const Findings& findings) {
    const RankView& first = findings.ranks.front();
    std::vector<JsonWriter> ranks;
    for (const RankView& view : findings.ranks) {
        ranks.emplace_back();
        ranks.back().set("node", view.node).set("usable_cores", view.usable_cores);
        ranks.back().set("visible_gpus", view.gpus).set("gpu", view.gpu);
    }
    JsonWriter cpu;
    cpu.set("model", findings.cpu.model)
        .set("instruction_set", findings.cpu.instruction_set)
        .set("libraries", findings.cpu.libraries)
        .set("bf16", findings.cpu.bf16)
        .set("cores", first.machine_cores);
    std::vector<JsonWriter> gpus;
    for (const auto& [gpu, processors] : findings.cuda.devices) {
        gpus.emplace_back();
        gpus.back()
            .set("model", gpu.model)
            .set("instruction_set", gpu.instruction_set)
            .set("processors", processors)
            .set("memory_bytes", gpu.memory_bytes)
            .set("bus_id", gpu.bus_id)
            .set("bf16", gpu.bf16);
    }
    JsonWriter out;
    out.set("version", build_info().version)
        .set("git_commit", build_info().git_commit)
        .set("mpi", MpiSession::library_version())
        .set("nodes", findings.nodes)
        .set("ranks", ranks)
        .set("cpu", cpu)
        .set("memory_bytes", first.memory)
        .set("memory_available_bytes", first.memory_free)
        .set("dev_shm_free_bytes", first.shared_free)
        .set("cuda", !findings.cuda.devices.empty())
        .set("cuda_trouble", findings.cuda.trouble)
        .set("cuda_libraries", findings.cuda.libraries)
        .set("cuda_driver", findings.cuda.driver)
        .set("gpus", gpus)
        .set("nccl", nccl_library());
    if (findings.product_rate) out.set("product_flops_per_second", *findings.product_rate);
    out.set("warnings", findings.advice);
    return out.text(2) + '\n';
}

}  // namespace

ExitCode run_doctor(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    const Communicator node = comm.node();
    const RankView mine = look(comm, node);
    const std::vector<Bytes> views = comm.gather(std::as_bytes(std::span(&mine, 1)), 0);
    const std::int64_t nodes = comm.sum(node.rank() == 0 ? 1 : 0);
    comm.together("look at the machine", [&] {
        if (comm.rank() != 0) return;
        Findings findings;
        for (const Bytes& view : views) findings.ranks.push_back(ByteReader(view).get<RankView>());
        findings.nodes = nodes;
        const auto threads = static_cast<int>(
            config.threads > 0 ? config.threads : std::max<std::int64_t>(1, mine.usable_cores));
        const std::unique_ptr<Backend> backend = make_cpu_backend(threads);
        findings.cpu = backend->info();
        findings.cuda = find_cuda_devices();
        if (config.measure) findings.product_rate = measure_product_rate(*backend, Dtype::fp32);
        findings.advice = advise(findings, context.environment);
        print_result(comm, config.output_format == "json" ? to_json(findings) : to_text(findings));
    });
    return ExitCode::done;
}

}  // namespace fedit
