// app/bench.cpp: `fedit bench`: how fast one client trains on this machine.
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
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
#include "fedit/tensor/machine_rate.h"
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

/// Records of made-up tokens: lengths log-normal as those of instructions (median 150 tokens), the
/// first half of each without labels, as a prompt.
EncodedRecords synthetic_records(const Config& config, std::int64_t vocab_size) {
    RandomStream stream(
        {.seed = static_cast<std::uint64_t>(config.seed), .purpose = Purpose::synthetic_data});
    EncodedRecords records;
    records.categories = {""};
    for (std::int64_t i = 0; i < config.batch_size; ++i) {
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

/// One batch: the records with a target, in order and from the start again until it is full.
EncodedRecords one_batch(const Config& config, const ModelConfig& model) {
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
    std::vector<std::int64_t> which;
    for (std::size_t i = 0; i < static_cast<std::size_t>(config.batch_size); ++i) {
        which.push_back(usable[i % usable.size()]);
    }
    return select(all, which);
}

struct Timing {
    std::vector<double> seconds;  ///< of each step, the warm-up's first
    TrainStats stats;
    double rate_before = 0, rate_after = 0;  ///< FLOP/s of large products around the steps
};

/// A machine whose product rate moved by more than this between start and end was not ours alone.
constexpr double quiet_machine = 1.2;

Timing time_steps(const Config& config, const BaseModel& base, Machine& machine,
                  const EncodedRecords& batch, const Layout& layout, const StopToken& stop) {
    Decoder decoder(base.config(), base.weights(), layout, *machine.backend, recompute(config));
    LocalConfig local = local_config(config);
    local.steps = config.bench_steps + 1;
    LocalTrainer trainer(decoder, layout, *machine.backend, local);
    TrainJob job;
    job.start = initial_adapter(layout, local.seed);
    Timing timing;
    Clock::time_point last = Clock::now();
    const TrainOutcome outcome = trainer.train(job, batch, nullptr, stop, [&](const TrainStats&) {
        const Clock::time_point now = Clock::now();
        timing.seconds.push_back(std::chrono::duration<double>(now - last).count());
        last = now;
    });
    timing.stats = outcome.state.stats;
    return timing;
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
             const Layout& layout, const EncodedRecords& batch, const Timing& timing) {
    const ModelConfig& model = base.config();
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    const std::int64_t labelled =
        std::accumulate(batch.targets.begin(), batch.targets.end(), std::int64_t{0});
    const double flop =
        4.0 * static_cast<double>(model.layer_weights()) * static_cast<double>(tokens) +
        4.0 * static_cast<double>(model.vocab_size * model.hidden_size) *
            static_cast<double>(labelled);
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
    sheet.fact("batch_size", config.batch_size);
    sheet.fact("micro_batch_size", config.micro_batch_size);
    sheet.fact("steps", config.bench_steps);
    sheet.fact("tokens_per_step", tokens);
    sheet.fact("labelled_per_step", labelled);
    sheet.fact("step_seconds", seconds);
    sheet.fact("tokens_per_second", static_cast<double>(tokens) / seconds);
    sheet.fact("flop_per_step", flop);
    sheet.fact("flops_per_second", flop / seconds);
    sheet.fact("product_flops_per_second", rate);
    sheet.fact("product_flops_per_second_before", timing.rate_before);
    sheet.fact("product_flops_per_second_after", timing.rate_after);
    sheet.fact("share_of_product_rate", flop / seconds / rate);
    sheet.fact("loss_first", timing.stats.loss_first);
    sheet.fact("loss_last", timing.stats.loss_last);
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
    context.files.write(folder / "model.safetensors",
                        make_random_weights(model, static_cast<std::uint64_t>(config.seed)));
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
    const BaseModel base(comm, random ? random->path() : fs::path(config.model), machine);
    random.reset();
    const EncodedRecords batch = one_batch(config, base.config());
    const Layout layout = make_lora_layout(base.config(), lora_config(config));
    const double rate_before = measure_product_rate(*machine.backend, machine.dtype);
    Timing timing = time_steps(config, base, machine, batch, layout, context.stop);
    if (timing.seconds.size() < 2) return ExitCode::stopped;
    timing.rate_before = rate_before;
    timing.rate_after = measure_product_rate(*machine.backend, machine.dtype);
    warn_if_not_quiet(context.log, timing);
    const Sheet sheet = report(config, base, machine, layout, batch, timing);
    print_result(comm, config.output_format == "json" ? sheet.json() : sheet.text());
    return ExitCode::done;
}

}  // namespace fedit
