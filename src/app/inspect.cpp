// app/inspect.cpp: `fedit inspect`: tells what a path is, and shows it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include "app/commands.h"
#include "app/sheet.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/experiment/session.h"
#include "fedit/io/json.h"
#include "fedit/model/dense.h"
#include "fedit/model/hf_folder.h"
#include "fedit/text/tokenizer.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

constexpr std::array kinds{FileKind::run_log, FileKind::checkpoint, FileKind::client_state,
                           FileKind::client_upload, FileKind::progress};

double norm(std::span<const float> values) {
    double sum = 0;
    for (const float value : values) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
}

// ---- runs

void add_rounds(Sheet& sheet, const RunLog& log) {
    std::vector<std::vector<Cell>> rows;
    for (const RoundRow& row : log.rounds) {
        rows.push_back({row.round, row.train_loss, row.eval_loss, row.clients, row.rejected,
                        row.tokens, row.seconds_total, row.update_norm});
    }
    sheet.table("rounds",
                {"round", "train_loss", "eval_loss", "clients", "rejected", "tokens",
                 "seconds_total", "update_norm"},
                std::move(rows));
}

void add_last_evaluation(Sheet& sheet, const RunLog& log) {
    if (log.evaluation.empty()) return;
    const std::int64_t last = log.evaluation.back().round;
    std::vector<std::vector<Cell>> rows;
    for (const EvaluationRow& row : log.evaluation) {
        if (row.round != last) continue;
        rows.push_back({row.round, row.client, row.category, row.loss, row.perplexity,
                        row.token_accuracy, row.labelled_tokens, row.records,
                        row.records_without_label});
    }
    sheet.table("last_evaluation",
                {"round", "client", "category", "loss", "perplexity", "token_accuracy",
                 "labelled_tokens", "records", "records_without_label"},
                std::move(rows));
}

void add_clients(Sheet& sheet, const RunLog& log) {
    struct Sum {
        std::int64_t rounds = 0, records = 0, rejected = 0;
        double first = not_computed, last = not_computed;
    };
    std::map<std::int64_t, Sum> sums;
    for (const ClientRow& row : log.clients) {
        Sum& sum = sums[row.client];
        if (sum.rounds == 0) sum.first = row.loss_first;
        ++sum.rounds;
        sum.records = row.records;
        sum.rejected += row.rejected;
        sum.last = row.loss_last;
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& [client, sum] : sums) {
        rows.push_back({client, sum.rounds, sum.records, sum.rejected, sum.first, sum.last});
    }
    sheet.table("clients", {"client", "rounds", "records", "rejected", "loss_first", "loss_last"},
                std::move(rows));
}

void add_run(Sheet& sheet, const RunLog& log) {
    sheet.fact("created", log.facts.created);
    sheet.fact("identity", log.facts.identity_hash);
    sheet.fact("seed", log.facts.seed);
    sheet.fact("num_clients", log.facts.num_clients);
    sheet.fact("rounds_done", static_cast<std::int64_t>(log.rounds.size()));
    std::vector<std::vector<Cell>> lives;
    for (const LifeRow& life : log.lives) {
        lives.push_back({life.start, life.end, life.end_reason, life.world_size, life.rounds_done,
                         life.devices});
    }
    if (!log.lives.empty()) sheet.fact("last_life", log.lives.back().end_reason);
    sheet.table("lives", {"start", "end", "end_reason", "world_size", "rounds_done", "devices"},
                std::move(lives));
    add_rounds(sheet, log);
    add_clients(sheet, log);
    add_last_evaluation(sheet, log);
}

void inspect_run_folder(Sheet& sheet, const fs::path& root) {
    const RunFolder folder{root};
    sheet.fact("kind", "run");
    sheet.fact("path", root.string());
    std::vector<fs::path> damaged;
    const std::optional<fs::path> newest = newest_checkpoint(folder, damaged);
    sheet.fact("newest_checkpoint", newest ? newest->string() : "none");
    std::vector<std::string> names;
    for (const fs::path& path : damaged) names.push_back(path.string());
    if (!names.empty()) sheet.fact("damaged_checkpoints", names);
    for (const char* result : {"adapter", "model"}) {
        if (fs::exists(folder.root / result)) sheet.fact(result, (folder.root / result).string());
    }
    add_run(sheet, RunLog::read(Hdf5Reader(folder.log(), FileKind::run_log)));
}

template <class Value>
void add_patterns(Sheet& sheet, const char* name,
                  const std::vector<std::pair<std::string, Value>>& patterns) {
    std::vector<std::string> items;
    for (const auto& [pattern, value] : patterns) {
        items.push_back(fmt::format("{}: {}", pattern, value));
    }
    if (!items.empty()) sheet.fact(name, items);
}

void inspect_checkpoint(Sheet& sheet, const fs::path& path) {
    const Checkpoint checkpoint = Checkpoint::read(path);
    sheet.fact("next_round", checkpoint.rounds_done);
    sheet.fact("lora_r", static_cast<std::int64_t>(checkpoint.lora.r));
    sheet.fact("lora_alpha", checkpoint.lora.alpha);
    sheet.fact("lora_target_modules", checkpoint.lora.target_modules);
    if (!checkpoint.lora.target_pattern.empty()) {
        sheet.fact("lora_target_pattern", checkpoint.lora.target_pattern);
    }
    add_patterns(sheet, "lora_rank_pattern", checkpoint.lora.rank_pattern);
    add_patterns(sheet, "lora_alpha_pattern", checkpoint.lora.alpha_pattern);
    sheet.fact("trains", is_dense(checkpoint.layout) ? "weights of the base" : "an adapter");
    sheet.fact("adapter_modules", static_cast<std::int64_t>(checkpoint.layout.modules.size()));
    sheet.fact("adapter_parameters", checkpoint.layout.size);
    sheet.fact("adapter_norm", norm(checkpoint.x));
    add_run(sheet, checkpoint.log);
}

void inspect_hdf5(Sheet& sheet, const fs::path& path) {
    const auto* kind = std::find_if(kinds.begin(), kinds.end(),
                                    [&](FileKind each) { return is_intact(path, each); });
    if (kind == kinds.end()) {
        const Hdf5Reader refused(path, FileKind::run_log);  // throws, saying what is wrong
        return;
    }
    sheet.fact("kind", std::string(to_string(*kind)));
    sheet.fact("path", path.string());
    if (*kind == FileKind::checkpoint) return inspect_checkpoint(sheet, path);
    const Hdf5Reader reader(path, *kind);
    if (*kind == FileKind::run_log) return add_run(sheet, RunLog::read(reader));
    sheet.fact("holds", reader.names("/"));
}

// ---- models and adapters

void add_tensors(Sheet& sheet, const SafetensorsFile& file) {
    std::vector<std::vector<Cell>> rows;
    std::int64_t elements = 0;
    for (const auto& [name, tensor] : file.tensors()) {
        elements += tensor.elements();
        rows.push_back({name, std::string(to_string(tensor.type)),
                        fmt::format("{}", fmt::join(tensor.shape, " x "))});
    }
    sheet.fact("elements", elements);
    sheet.table("tensors", {"name", "type", "shape"}, std::move(rows));
}

void inspect_model(Sheet& sheet, const fs::path& path) {
    const HfFolder folder(path);
    const ModelConfig& config = folder.config();
    sheet.fact("kind", "model");
    sheet.fact("path", path.string());
    sheet.fact("architecture", std::string(to_string(config.architecture)));
    sheet.fact("parameters", config.parameters());
    sheet.fact("layers", config.layers);
    sheet.fact("hidden_size", config.hidden_size);
    sheet.fact("intermediate_size", config.intermediate_size);
    sheet.fact("heads", config.heads);
    sheet.fact("kv_heads", config.kv_heads);
    sheet.fact("head_dim", config.head_dim);
    sheet.fact("vocab_size", config.vocab_size);
    sheet.fact("max_positions", config.max_positions);
    if (!config.windows.empty()) {
        const auto [least, most] =
            std::minmax_element(config.windows.begin(), config.windows.end());
        if (*most > 0) sheet.fact("sliding_window", *most);
        if (*most > 0 && *least == 0) {
            sheet.fact("sliding_layers",
                       config.layers - std::count(config.windows.begin(), config.windows.end(), 0));
        }
    }
    sheet.fact("tied_head", config.tied_head ? "true" : "false");
    sheet.fact("sha256", folder.fingerprint(usable_cores()));
    if (fs::exists(path / "tokenizer.json")) {
        sheet.fact("tokenizer_vocab_size", Tokenizer::load(path).vocab_size());
    }
}

/// A member of adapter_config.json: numbers and lists of names as such, the rest as JSON.
Cell to_cell(const Json& value) {
    if (value.is_string()) return value.as_string();
    if (value.is_integer()) return value.as_int();
    if (value.is_number()) return value.as_double();
    if (!value.is_array()) return value.dump();
    std::vector<std::string> items;
    for (std::size_t i = 0; i < value.size(); ++i) {
        items.push_back(value[i].is_string() ? value[i].as_string() : value[i].dump());
    }
    return items;
}

void inspect_adapter(Sheet& sheet, const fs::path& path) {
    const Json config = Json::parse_file(path / "adapter_config.json");
    sheet.fact("kind", "PEFT adapter");
    sheet.fact("path", path.string());
    for (const std::string& key : config.keys()) {
        const Json value = config[key];
        if (!value.is_null()) sheet.fact(key, to_cell(value));
    }
    add_tensors(sheet, SafetensorsFile(path / "adapter_model.safetensors"));
}

void inspect_folder(Sheet& sheet, const fs::path& path) {
    if (fs::exists(RunFolder{path}.log())) return inspect_run_folder(sheet, path);
    if (fs::exists(path / "adapter_config.json")) return inspect_adapter(sheet, path);
    if (fs::exists(path / "config.json")) return inspect_model(sheet, path);
    throw InputError({.what = "nothing here is known to fedit",
                      .where = path.string(),
                      .remedy = "name a folder with run.h5, config.json (a model) or "
                                "adapter_config.json (a PEFT adapter)"});
}

Sheet look_at(const fs::path& path) {
    Sheet sheet;
    if (fs::is_directory(path)) {
        inspect_folder(sheet, path);
    } else if (path.extension() == ".safetensors") {
        const SafetensorsFile file(path);
        sheet.fact("kind", "safetensors");
        sheet.fact("path", path.string());
        add_tensors(sheet, file);
    } else {
        inspect_hdf5(sheet, path);
    }
    return sheet;
}

}  // namespace

ExitCode run_inspect(const Context& context, const Config& config) {
    context.comm.together("inspect", [&] {
        if (context.comm.rank() != 0) return;
        const Sheet sheet = look_at(config.input);
        print_result(context.comm, config.output_format == "json" ? sheet.json() : sheet.text());
    });
    return ExitCode::done;
}

}  // namespace fedit
