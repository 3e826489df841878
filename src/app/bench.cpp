// app/bench.cpp: `fedit bench`: how fast clients train on this machine.
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>
#include <vector>

#include "app/bench.h"
#include "app/commands.h"
#include "app/records.h"
#include "app/sheet.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/session.h"
#include "fedit/io/json.h"
#include "fedit/tensor/energy_meter.h"
#include "fedit/tensor/machine_rate.h"
#include "fedit/tensor/timed_backend.h"
#include "fedit/train/local_trainer.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// A new folder in the system's temporary place, removed with its owner.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string form = (fs::temp_directory_path() / "fedit-bench-XXXXXX").string();
        if (mkdtemp(form.data()) == nullptr) {
            throw RunError({.what = "cannot make a temporary folder for the random model",
                            .where = form,
                            .remedy = "set TMPDIR to a folder with room"});
        }
        path_ = form;
    }
    ~TemporaryFolder() {
        std::error_code ignored;  // a folder left behind in the temporary place does no harm
        fs::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const fs::path& path() const { return path_; }

private:
    fs::path path_;
};

/// Batches of made-up records for all members of the cohort: lengths log-normal as those of
/// instructions (median 150 tokens), the first half of each without labels, as a prompt.
EncodedRecords synthetic_records(const Config& config, std::int64_t vocab_size) {
    RandomStream stream(
        {.seed = static_cast<std::uint64_t>(config.seed), .purpose = Purpose::synthetic_data});
    EncodedRecords records;
    records.categories = {""};
    for (std::int64_t i = 0; i < config.batch_size * plan_config(config).cohort; ++i) {
        const auto wished = static_cast<std::int64_t>(150 * std::exp(0.8 * stream.normal()));
        const std::int64_t length = std::clamp<std::int64_t>(
            wished, std::min<std::int64_t>(16, config.cutoff_len), config.cutoff_len);
        for (std::int64_t t = 0; t < length; ++t) {
            const auto token =
                static_cast<std::int32_t>(stream.below(static_cast<std::uint64_t>(vocab_size)));
            records.tokens.push_back(token);
            records.labels.push_back(t < length / 2 ? -1 : token);
        }
        records.begin.push_back(static_cast<std::int64_t>(records.tokens.size()));
        records.targets.push_back(length - std::max<std::int64_t>(1, length / 2));
        records.category.push_back(0);
    }
    return records;
}

/// One batch a member of the cohort: the records with a target, in order and from the start again
/// until all are full.
std::vector<EncodedRecords> make_batches(const Config& config, const ModelConfig& model) {
    const EncodedRecords all =
        config.data.empty() ? synthetic_records(config, model.vocab_size)
                            : encode(read_record_set(config, Wanted::for_texts), config, model);
    std::vector<std::int64_t> usable;
    for (std::int64_t i = 0; i < all.size(); ++i) {
        if (all.targets[static_cast<std::size_t>(i)] > 0) usable.push_back(i);
    }
    if (usable.empty()) {
        throw InputError(
            {.what = "no record has a labelled token within the cutoff",
             .where = fmt::format("--data {}, --cutoff-len {}", config.data, config.cutoff_len),
             .remedy = "raise --cutoff-len or give other records"});
    }
    std::vector<EncodedRecords> batches;
    std::size_t next = 0;
    for (int member = 0; member < plan_config(config).cohort; ++member) {
        std::vector<std::int64_t> which;
        for (std::int64_t i = 0; i < config.batch_size; ++i) {
            which.push_back(usable[next++ % usable.size()]);
        }
        batches.push_back(select(all, which));
    }
    return batches;
}

struct StepWork {
    std::int64_t tokens = 0, labelled = 0;
};

StepWork work_of(const std::vector<EncodedRecords>& batches) {
    StepWork work;
    for (const EncodedRecords& batch : batches) {
        work.tokens += static_cast<std::int64_t>(batch.tokens.size());
        work.labelled = std::accumulate(batch.targets.begin(), batch.targets.end(), work.labelled);
    }
    return work;
}

struct Timing {
    std::vector<double> seconds;  ///< of each step, the warm-up's first
    TrainStats stats;             ///< of the first member
    std::size_t planned_bytes = 0;
    double rate_before = 0, rate_after = 0;  ///< FLOP/s of large products around the steps
    double sustained_rate = 0;               ///< the same over a second, behind one of products
    double joules_per_step = std::nan("");   ///< of the GPU on average, where its driver tells
};

/// A machine whose product rate moved by more than this between start and end was not ours alone.
constexpr double quiet_machine = 1.2;

/// One step to warm up, then the steps that count; calls `after_step` behind each.
Timing time_steps(const Config& config, const BaseModel& base, Backend& backend,
                  const std::vector<EncodedRecords>& batches, const Layout& layout,
                  const StopToken& stop, const std::function<void()>& after_step = {}) {
    Decoder decoder(base.config(), base.weights(), layout, backend, recompute(config));
    LocalConfig local = local_config(config);
    local.steps = config.bench_steps + 1;
    LocalTrainer trainer(decoder, layout, backend, local);
    std::vector<CohortMember> members;
    std::vector<PassSize> passes;
    for (const EncodedRecords& batch : batches) {
        CohortMember member;
        member.job.client = static_cast<int>(members.size());
        member.job.start = initial_adapter(layout, local.seed);
        member.records = &batch;
        members.push_back(std::move(member));
        passes.push_back(largest_pass(batch, local));
    }
    Timing timing;
    timing.planned_bytes = base.bytes() + trainer.peak_bytes(passes);
    Clock::time_point last = Clock::now();
    const auto outcomes = trainer.train(members, stop, [&](std::size_t member, const TrainStats&) {
        if (member != 0) return;  // all take their steps together
        const Clock::time_point now = Clock::now();
        timing.seconds.push_back(std::chrono::duration<double>(now - last).count());
        if (after_step) after_step();
        last = Clock::now();
    });
    timing.stats = outcomes.front().state.stats;
    return timing;
}

/// time_steps() with what the GPU took for the steps that count.
Timing time_steps_and_energy(const Config& config, const BaseModel& base, Backend& backend,
                             const std::vector<EncodedRecords>& batches, const Layout& layout,
                             const StopToken& stop) {
    const EnergyMeter energy(backend.info().device_id);
    std::vector<std::optional<double>> joules;  // behind each step
    Timing timing = time_steps(config, base, backend, batches, layout, stop,
                               [&] { joules.push_back(energy.joules()); });
    if (joules.size() > 1 && joules.front() && joules.back()) {
        timing.joules_per_step =
            (*joules.back() - *joules.front()) / static_cast<double>(joules.size() - 1);
    }
    return timing;
}

/// Where a step's time goes.
struct Profile {
    std::vector<OperationTime> operations;  ///< of all steps together
    double steps = 0;
    double step_seconds = 0;  ///< on average, with what lies between operations
};

Profile profile_steps(const Config& config, const BaseModel& base, Backend& backend,
                      const std::vector<EncodedRecords>& batches, const Layout& layout,
                      const StopToken& stop) {
    TimedBackend timed(backend);
    Profile profile;
    std::int64_t steps_seen = 0;
    const Timing timing = time_steps(config, base, timed, batches, layout, stop, [&] {
        if (steps_seen++ == 0) timed.reset();  // that was to warm up
        profile.operations = timed.times();    // before the results are taken home
    });
    profile.steps = static_cast<double>(timing.seconds.size()) - 1;
    if (profile.steps >= 1) {
        profile.step_seconds =
            std::accumulate(timing.seconds.begin() + 1, timing.seconds.end(), 0.0) / profile.steps;
    }
    return profile;
}

/// Tables of phases and operations; `rate` is that of large products.
void add_profile(Sheet& sheet, const Profile& profile, double rate) {
    double outside = profile.step_seconds;
    std::vector<std::vector<Cell>> phases, operations;
    for (const StepPhase phase : all_step_phases) {
        double seconds = 0;
        for (const OperationTime& time : profile.operations) {
            if (time.phase == phase) seconds += time.seconds / profile.steps;
        }
        outside -= seconds;
        phases.push_back({std::string(to_string(phase)), seconds, seconds / profile.step_seconds});
    }
    phases.push_back({std::string("outside"), outside, outside / profile.step_seconds});
    std::vector<OperationTime> longest_first = profile.operations;
    std::stable_sort(longest_first.begin(), longest_first.end(),
                     [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    for (const OperationTime& time : longest_first) {
        const double seconds = time.seconds / profile.steps;
        const double flops = time.flop > 0 ? time.flop / time.seconds : std::nan("");
        operations.push_back({std::string(time.name), std::string(to_string(time.phase)),
                              static_cast<double>(time.calls) / profile.steps, seconds,
                              seconds / profile.step_seconds, flops, flops / rate});
    }
    sheet.fact("profiled_step_seconds", profile.step_seconds);
    sheet.table("phases", {"phase", "seconds", "share"}, std::move(phases));
    sheet.table("operations",
                {"operation", "phase", "calls", "seconds", "share", "flops_per_second",
                 "share_of_product_rate"},
                std::move(operations));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::int64_t peak_memory_bytes() {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

Sheet report(const Config& config, const BaseModel& base, const Machine& machine,
             const Layout& layout, const StepWork& work, const Timing& timing) {
    const ModelConfig& model = base.config();
    const double flop =
        4.0 * static_cast<double>(model.layer_weights()) * static_cast<double>(work.tokens) +
        4.0 * static_cast<double>(model.vocab_size * model.hidden_size) *
            static_cast<double>(work.labelled);
    const double seconds = median({timing.seconds.begin() + 1, timing.seconds.end()});
    const std::int64_t peak = peak_memory_bytes();
    const double rate = std::max(timing.rate_before, timing.rate_after);
    const DeviceInfo device = machine.backend->info();
    Sheet sheet;
    sheet.fact("device", device.model);
    sheet.fact("instruction_set", device.instruction_set);
    sheet.fact("dtype", std::string(to_string(machine.dtype)));
    sheet.fact("threads", static_cast<std::int64_t>(machine.threads));
    sheet.fact("parameters", model.parameters());
    sheet.fact("adapter_parameters", layout.size);
    sheet.fact("lora_r", config.lora_r);
    sheet.fact("lora_target_modules", lora_config(config).target_modules);
    sheet.fact("cohort", static_cast<std::int64_t>(plan_config(config).cohort));
    sheet.fact("batch_size", config.batch_size);
    sheet.fact("micro_batch_size", config.micro_batch_size);
    sheet.fact("steps", config.bench_steps);
    sheet.fact("tokens_per_step", work.tokens);
    sheet.fact("labelled_per_step", work.labelled);
    sheet.fact("step_seconds", seconds);
    sheet.fact("tokens_per_second", static_cast<double>(work.tokens) / seconds);
    sheet.fact("flop_per_step", flop);
    sheet.fact("flops_per_second", flop / seconds);
    sheet.fact("product_flops_per_second", rate);
    sheet.fact("product_flops_per_second_before", timing.rate_before);
    sheet.fact("product_flops_per_second_after", timing.rate_after);
    sheet.fact("product_flops_per_second_sustained", timing.sustained_rate);
    sheet.fact("share_of_product_rate", flop / seconds / rate);
    sheet.fact("share_of_sustained_rate", flop / seconds / timing.sustained_rate);
    sheet.fact("joules_per_step", timing.joules_per_step);
    sheet.fact("loss_first", timing.stats.loss_first);
    sheet.fact("loss_last", timing.stats.loss_last);
    sheet.fact("planned_memory_bytes",
               static_cast<std::int64_t>(timing.planned_bytes) + device.overhead_bytes);
    sheet.fact("peak_memory_bytes", peak);
    return sheet;
}

void warn_if_not_quiet(const Log& log, const Timing& timing) {
    const auto [low, high] = std::minmax(timing.rate_before, timing.rate_after);
    if (high <= quiet_machine * low) return;
    log.warning(
        fmt::format("products ran at {:.1f} GFLOP/s before the steps and at {:.1f} after: "
                    "something else used this machine, so do not record these figures",
                    timing.rate_before * 1e-9, timing.rate_after * 1e-9));
}

/// Writes a random model for --model-config; it is read back like any other.
void write_random_model(const Context& context, const Config& config, const fs::path& folder) {
    const std::string text = read_text_file(config.model_config);
    const ModelConfig model = parse_model_config(Json::parse(text, config.model_config));
    context.files.write(folder / "config.json", text);
    context.files.write(
        folder / "model.safetensors",
        make_random_weights(model, static_cast<std::uint64_t>(config.seed), usable_cores()));
}

}  // namespace

ExitCode run_bench(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    if (comm.size() != 1) return bench_aggregation(context, config);
    Machine machine = choose_machine(config, comm);
    std::optional<TemporaryFolder> random;
    if (config.model.empty()) {
        random.emplace();
        write_random_model(context, config, random->path());
    }
    ProgressLine progress(context.log.out(), context.progress);
    const BaseModel base(comm, random ? random->path() : fs::path(config.model), machine,
                         &progress);
    random.reset();
    const std::vector<EncodedRecords> batches = make_batches(config, base.config());
    const Layout layout = make_lora_layout(base.config(), lora_config(config));
    const double rate_before = measure_product_rate(*machine.backend, machine.dtype);
    Timing timing =
        time_steps_and_energy(config, base, *machine.backend, batches, layout, context.stop);
    if (timing.seconds.size() < 2) return ExitCode::stopped;
    timing.rate_before = rate_before;
    timing.rate_after = measure_product_rate(*machine.backend, machine.dtype);
    timing.sustained_rate = measure_sustained_product_rate(*machine.backend, machine.dtype);
    warn_if_not_quiet(context.log, timing);
    Sheet sheet = report(config, base, machine, layout, work_of(batches), timing);
    if (config.profile) {
        const Profile profile =
            profile_steps(config, base, *machine.backend, batches, layout, context.stop);
        if (profile.steps < 1) return ExitCode::stopped;
        add_profile(sheet, profile, std::max(timing.rate_before, timing.rate_after));
    }
    print_result(comm, config.output_format == "json" ? sheet.json() : sheet.text());
    return ExitCode::done;
}

}  // namespace fedit
