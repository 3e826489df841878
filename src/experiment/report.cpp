// experiment/report.cpp: the plan before a run and the summary after it, in plain lines.
#include "experiment/report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/local_clients.h"
#include "fedit/federation/plan.h"
#include "fedit/tensor/machine_rate.h"
#include "fedit/text/dataset.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

std::string loss_text(double loss) {
    return std::isnan(loss) ? "-" : fmt::format("{:.4f}", loss);
}

std::string reason_text(StopReason reason) {
    switch (reason) {
        case StopReason::signal:
            return "a signal";
        case StopReason::walltime:
            return "--max-walltime";
        case StopReason::stop_file:
            return "the file `stop`";
        case StopReason::none:
            return "another rank's request";
    }
    return "";
}

/// "round 1 trains 3 cohorts: 1+4 (9-12 records), ...".
std::string cohort_text(const RoundPlan& plan) {
    std::string text;
    for (const std::vector<std::size_t>& cohort : plan.cohorts) {
        std::vector<int> clients;
        for (const std::size_t i : cohort) clients.push_back(plan.clients[i].client);
        text += fmt::format("{} {} ({} to {} records)", text.empty() ? "" : ",",
                            fmt::join(clients, "+"), plan.clients[cohort.back()].records,
                            plan.clients[cohort.front()].records);
    }
    return fmt::format("round 1 trains {} cohorts of clients:{}", plan.cohorts.size(), text);
}

/// What `fedit evaluate` can read as --data: the held-out records where there are some.
std::string data_to_evaluate(const Config& config) {
    if (!config.eval_data.empty()) return config.eval_data;
    return fs::exists(held_out_file(config.data)) ? config.data : "HELD_OUT.jsonl";
}

/// The command that gives the last evaluation again.
std::string evaluate_command(const Config& config, const RunFolder& folder) {
    std::string result = folder.result_link().string();
    if (config.mode == "local") result += "/" + client_name(0);
    const std::string model =
        folder.result == "adapter" ? config.model + " --adapter " + result : result;
    std::string command = fmt::format("fedit evaluate --model {} --data {} --cutoff-len {}", model,
                                      data_to_evaluate(config), config.cutoff_len);
    if (!config.prompt_template.empty()) command += " --prompt-template " + config.prompt_template;
    if (!config.tokenizer.empty()) command += " --tokenizer " + config.tokenizer;
    if (config.train_on_inputs) command += " --train-on-inputs";
    return command;
}

}  // namespace

void make_output_folder(const RunFolder& folder) {
    for (const fs::path& path :
         {folder.root, folder.checkpoints(), folder.results(), folder.state()}) {
        std::error_code error;
        fs::create_directories(path, error);
        if (error || !fs::is_directory(path)) {
            throw InputError({.what = "cannot make the output folder: " + error.message(),
                              .where = "--output " + path.string(),
                              .remedy = "give --output a folder that you may write to"});
        }
    }
}

std::string start_line(const RoundRow& before) {
    return std::isnan(before.eval_loss)
               ? std::string(
                     "no held-out records: rounds show the training loss alone (--eval-data)")
               : fmt::format("before round 1: evaluation loss {} nats",
                             loss_text(before.eval_loss));
}

std::string round_line(const RoundRow& row, std::int64_t rounds) {
    std::string line = fmt::format(
        "round {}/{}: train loss {}, evaluation loss {} nats | {} clients, {} tokens in {} ({:.0f} "
        "tokens/s)",
        row.round + 1, rounds, loss_text(row.train_loss), loss_text(row.eval_loss), row.clients,
        row.tokens, format_duration(row.seconds_total),
        static_cast<double>(row.tokens) / std::max(row.seconds_train, 1e-9));
    if (!std::isnan(row.aggregation_error_relative))
        line += fmt::format(", aggregation error {:.2g} %", 100 * row.aggregation_error_relative);
    if (row.rejected > 0) line += fmt::format(", {} rejected", row.rejected);
    return line;
}

void report_plan(const Log& log, Setup& setup, int ranks) {
    const Config& config = setup.config();
    const ModelConfig& model = setup.model().config();
    const DeviceInfo device = setup.backend().info();
    const FederatedData& data = setup.data();
    const Checkpoint& state = setup.state();
    log.info(
        fmt::format("base model {}: {:.2f} M parameters, {} layers, {} products on {} ({}), {} "
                    "rank(s) x {} thread(s)",
                    config.model, static_cast<double>(model.parameters()) * 1e-6, model.layers,
                    config.dtype, device.model, device.instruction_set, ranks, setup.threads()));
    const std::string what = is_dense(state.layout)
                                 ? fmt::format("--tune {}: {} tensors of the base train",
                                               config.tune, state.layout.modules.size())
                                 : fmt::format("adapter: rank {}, alpha {}, on {}", config.lora_r,
                                               config.lora_alpha, config.lora_target_modules);
    log.info(fmt::format("{}: {} numbers, {} up and down for a client", what, state.layout.size,
                         format_bytes(state.layout.size * 4)));
    std::int64_t trainable = 0;
    for (const std::int64_t records : data.trainable) trainable += records;
    const RoundPlan plan = plan_round(plan_config(config), 0, data.trainable);
    log.info(fmt::format(
        "{} clients ({}) hold {} trainable records; {} sampled a round for {} rounds{}; {} "
        "held-out records",
        data.num_clients(), config.partition, trainable, plan.clients.size(), config.rounds,
        config.cohort == "1" ? "" : fmt::format(", {} to a pass at most", config.cohort),
        data.evaluation.size()));
    if (setup.memory().on_device()) log.info(setup.memory().device_text());
    log.info(setup.memory().node_text());
    if (state.rounds_done > 0) {
        log.info(fmt::format("going on after round {} of {}", state.rounds_done, config.rounds));
    }
}

void report_dry_run(const Log& log, Setup& setup, int ranks) {
    const Config& config = setup.config();
    const FederatedData& data = setup.data();
    const Checkpoint& state = setup.state();
    const PartitionTable& table = data.table;
    std::string head = fmt::format("{:>8} {:>9} {:>10}", "client", "records", "trainable");
    for (const std::string& name : table.categories)
        head += fmt::format("  {}", name.empty() ? "(none)" : name);
    log.info(head);
    for (int k = 0; k < data.num_clients(); ++k) {
        const auto at = static_cast<std::size_t>(k);
        std::string line = fmt::format("{:>8} {:>9} {:>10}", k, table.partition.records[at].size(),
                                       data.trainable[at]);
        for (std::size_t c = 0; c < table.categories.size(); ++c) {
            line += fmt::format("  {:>{}}", table.client_category[at * table.categories.size() + c],
                                std::max<std::size_t>(table.categories[c].size(), 6));
        }
        log.info(line);
    }
    const RoundPlan plan = plan_round(plan_config(config), 0, data.trainable);
    if (config.cohort != "1") log.info(cohort_text(plan));
    double tokens = 0;
    for (const PlannedClient& who : plan.clients) {
        const EncodedRecords mine = data.client(who.client);
        const double epochs = config.local_steps == 0
                                  ? static_cast<double>(config.local_epochs)
                                  : static_cast<double>(config.local_steps *
                                                        std::min(config.batch_size, who.records)) /
                                        static_cast<double>(who.records);
        tokens += static_cast<double>(mine.tokens.size()) * epochs;
    }
    const std::int64_t adapter_bytes = state.layout.size * 4;
    log.info(fmt::format("a round: {} clients, about {:.0f} tokens, {} up and {} down",
                         plan.clients.size(), tokens,
                         format_bytes(adapter_bytes * std::ssize(plan.clients)),
                         format_bytes(adapter_bytes * std::ssize(plan.clients))));
    // An upload holds x, m and v; a kept round holds a checkpoint and an adapter.
    const std::int64_t kept = config.keep_last == 0 ? config.rounds : config.keep_last;
    log.info(fmt::format("disk: about {} in {}",
                         format_bytes(adapter_bytes * (2 * kept + 3 * std::ssize(plan.clients))),
                         config.output));
    const double rate =
        measure_product_rate(setup.backend(), config.dtype == "bf16" ? Dtype::bf16 : Dtype::fp32);
    const double flop = 4 * static_cast<double>(setup.model().config().layer_weights()) * tokens;
    const double seconds = flop / (rate * ranks);
    log.info(fmt::format(
        "time: at least {} a round, {} in all, at this machine's measured {:.0f} GFLOP/s a rank",
        format_duration(seconds), format_duration(seconds * static_cast<double>(config.rounds)),
        rate * 1e-9));
    log.info("dry run: nothing was trained or written");
}

void report_end(const Log& log, Setup& setup, const RunFolder& folder, ExitCode code,
                StopReason reason, double seconds) {
    const Config& config = setup.config();
    const Checkpoint& state = setup.state();
    const std::vector<EvaluationRow>& scores = state.log.evaluation;
    if (code == ExitCode::stopped) {
        log.info(
            fmt::format("stopped by {} after {} of {} rounds; clients in training are saved. Run "
                        "the same command again to go on",
                        reason_text(reason), state.rounds_done, config.rounds));
        return;
    }
    std::string reached;
    const auto is_all = [](const EvaluationRow& row) { return row.category == "all"; };
    const auto first = std::find_if(scores.begin(), scores.end(), is_all);
    if (first != scores.end() && !state.log.rounds.empty()) {
        reached = fmt::format(", evaluation loss {:.4f} -> {} nats{}", first->loss,
                              loss_text(state.log.rounds.back().eval_loss),
                              config.mode == "local" ? ", mean of the clients" : "");
    }
    log.info(fmt::format("done: {} rounds{}, {} in this start", state.rounds_done, reached,
                         format_duration(seconds)));
    log.info(fmt::format("  {:<11} {}  ({} folder{})", folder.result, folder.result_link().string(),
                         folder.result == "adapter" ? "PEFT" : "Hugging Face",
                         config.mode == "local" ? " of each client" : ""));
    log.info(fmt::format("  log         {}", folder.log().string()));
    log.info(fmt::format("  checkpoint  {}", folder.checkpoint(state.rounds_done).string()));
    log.info("next: " + evaluate_command(config, folder));
    log.info(fmt::format("      fedit-report {} -o report.html", folder.root.string()));
}

}  // namespace fedit
