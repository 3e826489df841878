// experiment/experiment.cpp: takes a run up, runs its rounds, and says where the results are.
#include "fedit/experiment/experiment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "experiment/report.h"
#include "experiment/setup.h"
#include "fedit/core/build_info.h"
#include "fedit/core/error.h"
#include "fedit/experiment/evaluation.h"
#include "fedit/experiment/round.h"
#include "fedit/experiment/run_lock.h"
#include "fedit/experiment/run_writer.h"
#include "fedit/io/sha256.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What the ranks say, each once, by comma, in the order of ranks.
std::string distinct(const Communicator& comm, std::string_view mine) {
    std::vector<std::string> all;
    for (const Bytes& part : comm.all_gather(std::as_bytes(std::span(mine)))) {
        std::string text(reinterpret_cast<const char*>(part.data()), part.size());
        if (std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
    }
    return fmt::format("{}", fmt::join(all, ","));
}

std::string host_name() {
    char name[256] = {};
    gethostname(name, sizeof name - 1);
    return name;
}

/// "cpu AMD EPYC AVX2", or "cuda NVIDIA H100 sm_90 GPU-5a...".
std::string device_name(const DeviceInfo& device) {
    std::string name = device.kind + " " + device.model + " " + device.instruction_set;
    return device.device_id.empty() ? name : name + " " + device.device_id;
}

/// Root's bytes of the checkpoint to go on from, the same on every rank; empty: none.
Bytes find_checkpoint(const Context& context, const Config& config, const RunFolder& folder) {
    Bytes file;
    context.comm.together("look for a checkpoint", [&] {
        if (context.comm.rank() != 0) return;
        if (config.resume != "auto" && config.resume != "never") {
            file = read_file(config.resume);
            return;
        }
        std::vector<fs::path> damaged;
        const std::optional<fs::path> newest = newest_checkpoint(folder, damaged);
        for (const fs::path& path : damaged)
            context.log.warning("damaged, not used: " + path.string());
        if (config.resume == "never" && (newest || fs::exists(folder.log()))) {
            throw InputError(
                {.what = "the folder holds a run already",
                 .where = "--output " + config.output + " with --resume never",
                 .remedy =
                     "give another --output, or leave --resume at auto to go on with that run"});
        }
        if (newest) {
            file = read_file(*newest);
        } else if (!damaged.empty()) {
            throw InputError({.what = "no checkpoint of this run is intact",
                              .where = folder.checkpoints().string(),
                              .remedy = "give another --output to start anew"});
        }
    });
    context.comm.broadcast(file, 0);
    return file;
}

std::optional<Checkpoint> read_checkpoint(const Context& context, const Config& config,
                                          const RunFolder& folder) {
    Bytes file = find_checkpoint(context, config, folder);
    if (file.empty()) return std::nullopt;
    const std::string source =
        config.resume == "auto" ? folder.checkpoints().string() : config.resume;
    return Checkpoint::decode(std::move(file), source);
}

/// Starts of this run that came after its newest checkpoint are only in its log. Rank 0's are kept.
void keep_later_lives(const RunFolder& folder, RunLog& log) {
    if (!is_intact(folder.log(), FileKind::run_log)) return;
    const RunLog written = RunLog::read(Hdf5Reader(folder.log(), FileKind::run_log));
    if (written.facts.identity_hash == log.facts.identity_hash &&
        written.lives.size() >= log.lives.size()) {
        log.lives = written.lives;
    }
}

/// For --mode local, what the clients hold; else null.
std::unique_ptr<LocalClients> make_local_clients(const Context& context, Setup& setup,
                                                 const RunFolder& folder) {
    if (setup.config().mode != "local") return nullptr;
    const FederatedData& data = setup.data();
    std::vector<int> clients;
    for (int k = 0; k < data.num_clients(); ++k) {
        if (data.trainable[static_cast<std::size_t>(k)] > 0) clients.push_back(k);
    }
    const Checkpoint& state = setup.state();
    return std::make_unique<LocalClients>(context.files, folder, state.log.facts.identity_hash,
                                          std::move(clients), state.x);
}

/// Rounds of one run. All ranks hold one; rank 0 writes.
class Experiment {
public:
    Experiment(const Context& context, Setup& setup, const RunFolder& folder, StopWatch& watch)
        : context_(context),
          comm_(context.comm),
          setup_(setup),
          config_(setup.config()),
          folder_(folder),
          watch_(watch),
          local_clients_(make_local_clients(context, setup, folder)),
          runner_(context, config_, setup.data(), setup.state().layout, setup.trainer(),
                  setup.backend(), watch, folder, local_clients_.get()),
          writer_(context.files, folder,
                  {config_.checkpoint_every, config_.keep_last,
                   fs::absolute(config_.model).lexically_normal().string(), local_clients_.get()},
                  context.log) {}

    ExitCode run();

private:
    bool is_root() const { return comm_.rank() == 0; }
    void begin_life();
    void end_life(const std::string& reason);
    void evaluate_state(std::int64_t round, RoundRow& row);
    double evaluate_one(std::int64_t round, int client, std::span<const float> x);
    double evaluate_clients(std::int64_t round);
    bool run_round();
    void finish_round(RoundResult result, double seconds_before_writing);
    bool finished() const { return setup_.state().rounds_done >= config_.rounds; }

    const Context& context_;
    const Communicator& comm_;
    Setup& setup_;
    const Config& config_;
    const RunFolder& folder_;
    StopWatch& watch_;
    std::unique_ptr<LocalClients> local_clients_;  ///< null: clients are averaged
    RoundRunner runner_;
    RunWriter writer_;
    double last_write_seconds_ = 0;
};

void Experiment::begin_life() {
    Checkpoint& state = setup_.state();
    comm_.together("read the log of earlier starts", [&] {
        if (is_root()) keep_later_lives(folder_, state.log);
    });
    const BuildInfo build = build_info();
    const DeviceInfo device = setup_.backend().info();
    const auto variable = [&](const char* name) {
        const auto found = context_.environment.find(name);
        return found == context_.environment.end() ? std::string() : found->second;
    };
    LifeRow life;
    life.start = utc_now();
    life.end_reason = "running";
    life.world_size = comm_.size();
    life.first_round = state.rounds_done;
    life.threads = setup_.threads();
    life.hosts = distinct(comm_, host_name());
    life.devices = distinct(comm_, device_name(device));
    life.slurm_job_id = variable("SLURM_JOB_ID");
    if (const std::string restarts = variable("SLURM_RESTART_COUNT"); !restarts.empty())
        life.slurm_job_id += " restart " + restarts;
    life.versions = fmt::format("fedit {} ({}{}), {}, {}", build.version,
                                build.git_commit.substr(0, 12), build.git_dirty ? ", changed" : "",
                                device.libraries, MpiSession::library_version());
    state.log.lives.push_back(life);
    comm_.together("write the run's first files", [&] {
        if (!is_root()) return;
        writer_.set_committed(state.rounds_done > 0 ? state.rounds_done : -1);
        cut_after(folder_, state.rounds_done);
        writer_.begin(state.log);
    });
}

void Experiment::end_life(const std::string& reason) {
    LifeRow& life = setup_.state().log.lives.back();
    life.end = utc_now();
    life.end_reason = reason;
    if (is_root()) writer_.write_log(setup_.state().log);
}

void Experiment::evaluate_state(std::int64_t round, RoundRow& row) {
    const EncodedRecords& records = setup_.data().evaluation;
    if (records.size() == 0 || config_.eval_every == 0) return;
    const auto start = Clock::now();
    const bool each = local_clients_ != nullptr && round >= 0;
    row.eval_loss = each ? evaluate_clients(round) : evaluate_one(round, -1, setup_.state().x);
    row.seconds_evaluate = seconds_since(start);
}

double Experiment::evaluate_clients(std::int64_t round) {
    double sum = 0;
    for (const int client : local_clients_->clients()) {
        std::vector<float> x(static_cast<std::size_t>(setup_.state().layout.size));
        comm_.together("read a client's file", [&] {
            if (is_root()) x = local_clients_->after(round + 1, client);
        });
        comm_.broadcast(std::as_writable_bytes(std::span(x)), 0);
        sum += evaluate_one(round, client, x);
    }
    return sum / static_cast<double>(local_clients_->clients().size());
}

double Experiment::evaluate_one(std::int64_t round, int client, std::span<const float> x) {
    const Evaluation evaluation =
        evaluate(comm_, setup_.decoder(), setup_.backend(), setup_.data().evaluation, x,
                 static_cast<int>(config_.eval_batch_size));
    const auto log = [&](const CategoryScore& score) {
        setup_.state().log.evaluation.push_back(
            {.round = round,
             .client = client,
             .category = score.category,
             .loss = score.loss(),
             .perplexity = score.perplexity(),
             .token_accuracy = score.token_accuracy(),
             .labelled_tokens = score.labelled_tokens,
             .records = score.records,
             .records_without_label = score.records_without_label});
    };
    log(evaluation.all);
    for (const CategoryScore& score : evaluation.categories) log(score);
    return evaluation.all.loss();
}

bool Experiment::run_round() {
    Checkpoint& state = setup_.state();
    const auto start = Clock::now();
    const RoundPlan plan = plan_round(plan_config(config_), static_cast<int>(state.rounds_done),
                                      setup_.data().trainable);
    const std::string tag = to_hex(Sha256()
                                       .add(state.log.facts.identity_hash)
                                       .add(std::to_string(state.rounds_done))
                                       .add(std::as_bytes(std::span(std::as_const(state.x))))
                                       .finish());
    std::optional<RoundResult> result = runner_.run(plan, state.x, tag);
    if (!result) return false;
    state.rounds_done += 1;
    if (config_.eval_every > 0 && (state.rounds_done % config_.eval_every == 0 || finished())) {
        evaluate_state(plan.round, result->row);
    }
    finish_round(std::move(*result), seconds_since(start));
    return true;
}

void Experiment::finish_round(RoundResult result, double seconds_before_writing) {
    Checkpoint& state = setup_.state();
    RunLog& log = state.log;
    result.row.seconds_write = last_write_seconds_;
    result.row.seconds_total = seconds_before_writing + last_write_seconds_;
    log.rounds.push_back(result.row);
    log.clients.insert(log.clients.end(), result.clients.begin(), result.clients.end());
    log.lives.back().rounds_done += 1;
    context_.log.info(round_line(result.row, config_.rounds));
    const auto start = Clock::now();
    comm_.together("write the round", [&] {
        const bool last = finished() || watch_.token().requested();
        if (is_root())
            writer_.after_round(state, last ? RunWriter::Moment::last : RunWriter::Moment::between);
    });
    last_write_seconds_ = seconds_since(start);
}

ExitCode Experiment::run() {
    begin_life();
    try {
        Checkpoint& state = setup_.state();
        if (state.rounds_done == 0 && state.log.evaluation.empty()) {
            RoundRow before;
            evaluate_state(-1, before);
            context_.log.info(start_line(before));
        }
        bool stopped = false;
        while (!stopped && !finished()) {
            watch_.poll();
            stopped = comm_.max(watch_.token().requested() ? 1 : 0) != 0 || !run_round();
        }
        comm_.together("write the end", [&] {
            end_life(finished() ? "done" : "stopped");
            if (is_root()) fs::remove(folder_.stop());
        });
    } catch (...) {
        try {
            end_life("failed");
        } catch (const Error& second) {
            context_.log.warning(std::string("the log does not say that this run failed: ") +
                                 second.what());
        }
        throw;
    }
    return finished() ? ExitCode::done : ExitCode::stopped;
}

}  // namespace

ExitCode run_training(const Context& context, Config config) {
    const Communicator& comm = context.comm;
    const RunFolder folder{
        fs::path(config.output), config.tune == "lora" ? "adapter" : "model",
        config.mode == "local" ? CommittedClients::kept : CommittedClients::forgotten};
    std::unique_ptr<RunLock> lock;
    comm.together("open the output folder", [&] {
        if (comm.rank() != 0 || config.dry_run) return;
        make_output_folder(folder);
        lock = std::make_unique<RunLock>(
            folder.lock(), config.force ? RunLock::Existing::take_over : RunLock::Existing::respect,
            context.log);
        for (const fs::path& path : {folder.root, folder.checkpoints(), folder.results()})
            AtomicFile::remove_leftovers(path);
        for (const std::int64_t round : rounds_in(folder.state()))
            AtomicFile::remove_leftovers(folder.clients(round));
    });
    StopWatch watch(context.stop, config.max_walltime, folder.stop());
    std::optional<Checkpoint> stored = read_checkpoint(context, config, folder);
    Setup setup(context, std::move(config), std::move(stored));
    report_plan(context.log, setup, comm.size());
    if (setup.config().dry_run) {
        report_dry_run(context.log, setup, comm.size());
        return ExitCode::done;
    }
    Experiment experiment(context, setup, folder, watch);
    const ExitCode code = experiment.run();
    report_end(context.log, setup, folder, code, watch.token().reason(), watch.seconds());
    return code;
}

}  // namespace fedit
