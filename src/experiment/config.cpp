// experiment/config.cpp: values in and out of a Config, and the checks a command asks for.
#include "fedit/experiment/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "experiment/trim.h"
#include "fedit/core/error.h"
#include "fedit/core/similar.h"

namespace fedit {
namespace {

std::vector<std::string> linear_names() {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < linear_count; ++i)
        names.emplace_back(to_string(static_cast<Linear>(i)));
    return names;
}

// ---- what a value may be

bool is_integer(const Option& option) {
    return std::holds_alternative<std::int64_t Config::*>(option.field);
}

std::string accepted_values(const Option& option) {
    if (!option.choices.empty()) {
        return fmt::format("one of: {}", fmt::join(option.choices, ", "));
    }
    if (std::holds_alternative<bool Config::*>(option.field)) return "true or false";
    if (std::holds_alternative<std::string Config::*>(option.field)) {
        return "text without control characters";
    }
    if (option.min > 0 && option.min < 1e-6) {
        return fmt::format("a number above 0, up to {}", option.max);
    }
    return fmt::format("{} from {} to {}", is_integer(option) ? "a whole number" : "a number",
                       option.min, option.max);
}

Fault value_fault(const Option& option, std::string_view text, std::string_view where) {
    return {.what = fmt::format("\"{}\" is not a value of --{}", text, option.name),
            .where = std::string(where),
            .remedy = fmt::format("give {}", accepted_values(option))};
}

/// Whether the field's value is one that the option accepts.
bool is_accepted(const Config& config, const Option& option) {
    const auto in_range = [&](double value) { return value >= option.min && value <= option.max; };
    if (const auto* integer = std::get_if<std::int64_t Config::*>(&option.field)) {
        return in_range(static_cast<double>(config.**integer));
    }
    if (const auto* number = std::get_if<double Config::*>(&option.field)) {
        return in_range(config.**number);
    }
    if (const auto* text = std::get_if<std::string Config::*>(&option.field)) {
        const std::string& value = config.**text;
        const bool control = std::any_of(value.begin(), value.end(), [&](char c) {
            const bool blank = option.lines && (c == '\n' || c == '\r' || c == '\t');
            return !blank && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f);
        });
        return !control &&
               (option.choices.empty() || std::find(option.choices.begin(), option.choices.end(),
                                                    value) != option.choices.end());
    }
    return true;
}

template <class Number>
bool parse_number(std::string_view text, Number& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
}

/// Writes `text` into the field; false if it is not of the field's type.
bool assign(Config& config, const Option& option, std::string_view text) {
    if (const auto* field = std::get_if<std::string Config::*>(&option.field)) {
        config.** field = text;
        return true;
    }
    if (const auto* field = std::get_if<std::int64_t Config::*>(&option.field)) {
        return parse_number(text, config.**field);
    }
    if (const auto* field = std::get_if<double Config::*>(&option.field)) {
        return parse_number(text, config.**field) && std::isfinite(config.**field);
    }
    config.*std::get<bool Config::*>(option.field) = text == "true";
    return text == "true" || text == "false";
}

// ---- combinations of values

void check_targets(const Config& config, std::vector<Fault>& faults) {
    const std::vector<std::string> targets = split_list(config.lora_target_modules);
    const std::vector<std::string> names = linear_names();
    const auto add = [&](std::string what, std::string remedy) {
        faults.push_back({std::move(what),
                          fmt::format("--lora-target-modules {}", config.lora_target_modules),
                          std::move(remedy)});
    };
    const std::string remedy =
        fmt::format("choose of {}, by comma, or all-linear", fmt::join(names, ", "));
    if (targets.empty()) add("no linear layer would get an adapter", remedy);
    if (targets == std::vector<std::string>{"all-linear"}) return;
    std::set<std::string> seen;
    for (const std::string& target : targets) {
        if (!seen.insert(target).second) add(fmt::format("\"{}\" is named twice", target), remedy);
        if (target == "all-linear") {
            add("all-linear stands beside single layers", "give all-linear alone, or the layers");
        } else if (std::find(names.begin(), names.end(), target) == names.end()) {
            add(fmt::format("a model has no linear layer \"{}\"{}", target,
                            suggestion(target, names)),
                remedy);
        }
    }
}

void check_batches(const Config& config, std::vector<Fault>& faults) {
    if (config.micro_batch_size > config.batch_size) {
        faults.push_back(
            {.what = "a micro-batch cannot hold more records than the batch it is a part of",
             .where = fmt::format("--micro-batch-size {}, --batch-size {}", config.micro_batch_size,
                                  config.batch_size),
             .remedy = "lower --micro-batch-size or raise --batch-size"});
    }
}

constexpr int largest_cohort = 1024;

/// The number of clients, or nothing for `auto` and what is no number.
std::optional<int> parse_cohort(const Config& config) {
    int size = 0;
    if (!parse_number(config.cohort, size) || size < 1 || size > largest_cohort) return {};
    return size;
}

void check_cohort(const Config& config, std::string_view automatic, std::vector<Fault>& faults) {
    if (config.cohort != automatic && !parse_cohort(config)) {
        faults.push_back(
            {.what = fmt::format("\"{}\" is not a value of --cohort", config.cohort),
             .where = "--cohort",
             .remedy = fmt::format("give a whole number from 1 to {}{}", largest_cohort,
                                   automatic.empty() ? "" : ", or auto")});
    }
}

void check_training(const Config& config, std::vector<Fault>& faults) {
    check_batches(config, faults);
    check_targets(config, faults);
    check_cohort(config, "auto", faults);
    if (config.tune != "lora" && parse_cohort(config).value_or(1) > 1) {
        faults.push_back(
            {.what = "clients share a pass over a frozen base, but here the base itself trains",
             .where = fmt::format("--tune {}, --cohort {}", config.tune, config.cohort),
             .remedy = "leave out --cohort, or train adapters: --tune lora"});
    }
    if (config.local_steps > 0 && config.local_epochs != Config{}.local_epochs) {
        faults.push_back({.what = "a client's round is measured in steps or in epochs, not in both",
                          .where = fmt::format("--local-steps {}, --local-epochs {}",
                                               config.local_steps, config.local_epochs),
                          .remedy = "give one of the two"});
    }
    if (config.local_steps > 0 && config.lr_scope == "round" && config.lr_scheduler != "constant" &&
        config.warmup_steps >= config.local_steps) {
        faults.push_back(
            {.what = "the learning rate would still be warming up when a round ends",
             .where = fmt::format("--warmup-steps {}, --local-steps {}, --lr-scope round",
                                  config.warmup_steps, config.local_steps),
             .remedy = "lower --warmup-steps, or let the schedule span the run: --lr-scope run"});
    }
    if (config.tune != "lora" && !config.init_adapter.empty()) {
        faults.push_back(
            {.what = "an adapter is given to start from, but no adapter trains",
             .where = fmt::format("--tune {}, --init-adapter {}", config.tune, config.init_adapter),
             .remedy = "leave out one of the two"});
    }
    const bool factors_averaged = config.tune == "lora" && config.mode != "local";
    if (!factors_averaged && config.log_aggregation_error > 0) {
        faults.push_back(
            {.what = "only averaged factors have an aggregation error",
             .where = fmt::format("--{}, --log-aggregation-error {}",
                                  config.mode == "local" ? "mode local" : "tune " + config.tune,
                                  config.log_aggregation_error),
             .remedy = "leave out --log-aggregation-error"});
    }
    const bool divided = config.num_clients > 1 ||
                         (config.partition != "auto" && config.partition != "iid") ||
                         config.client_fraction < 1;
    if (config.mode == "centralized" && divided) {
        faults.push_back(
            {.what = "centralized training has one client that holds all records",
             .where = fmt::format("--num-clients {}, --partition {}, --client-fraction {}",
                                  config.num_clients, config.partition, config.client_fraction),
             .remedy = "leave these options out, or use --mode federated"});
    }
    if (config.mode == "local" && config.client_fraction < 1) {
        faults.push_back({.what = "in local training every client trains in every round",
                          .where = fmt::format("--client-fraction {}", config.client_fraction),
                          .remedy = "leave it out, or use --mode federated"});
    }
}

void check_bench(const Config& config, std::vector<Fault>& faults) {
    check_batches(config, faults);
    check_targets(config, faults);
    check_cohort(config, "", faults);
    if (config.model.empty() == config.model_config.empty()) {
        faults.push_back(
            {.what = config.model.empty() ? "no model is named" : "two models are named",
             .where = fmt::format("--model \"{}\", --model-config \"{}\"", config.model,
                                  config.model_config),
             .remedy = "give one of them: --model FOLDER for trained weights, "
                       "--model-config FILE for random ones"});
    }
}

void check_export(const Config& config, std::vector<Fault>& faults) {
    if (config.merge && config.model.empty()) {
        faults.push_back(
            {.what = "--merge needs the base model",
             .where = "",
             .remedy = "give --model FOLDER, the model that the adapter was trained on"});
    }
    if (!config.merge && config.save_dtype != "auto") {
        faults.push_back({.what = "only a merged model has a type to choose; adapters are fp32",
                          .where = fmt::format("--save-dtype {}", config.save_dtype),
                          .remedy = "add --merge, or leave --save-dtype out"});
    }
}

void check_sampling(const Config& config, std::vector<Fault>& faults) {
    if (config.temperature > 0 || (config.top_k == 0 && config.top_p == 1)) return;
    faults.push_back({.what = "greedy answers are not sampled, so nothing is cut from the choice",
                      .where = fmt::format("--temperature {}, --top-k {}, --top-p {}",
                                           config.temperature, config.top_k, config.top_p),
                      .remedy = "give --temperature above 0, or neither --top-k nor --top-p"});
}

void check_evaluation(const Config& config, std::vector<Fault>& faults) {
    check_sampling(config, faults);
    if (split_list(config.adapter).empty() && !config.adapter.empty()) {
        faults.push_back({.what = "no adapter is named",
                          .where = fmt::format("--adapter \"{}\"", config.adapter),
                          .remedy = "give paths by comma, or leave --adapter out"});
    }
    if (!config.token_losses.empty() && split_list(config.adapter).size() > 1) {
        faults.push_back({.what = "the losses of tokens are written for one model",
                          .where = fmt::format("--token-losses {}, --adapter {}",
                                               config.token_losses, config.adapter),
                          .remedy = "name one adapter"});
    }
}

void check_generation(const Config& config, std::vector<Fault>& faults) {
    check_sampling(config, faults);
    std::vector<std::string_view> sources;
    if (!config.prompt.empty()) sources.emplace_back("--prompt");
    if (!config.instruction.empty()) sources.emplace_back("--instruction");
    if (!config.data.empty()) sources.emplace_back("--data");
    if (!config.input.empty()) sources.emplace_back("--input");
    if (config.interactive) sources.emplace_back("--interactive");
    if (sources.size() > 1) {
        faults.push_back({.what = "there is more than one source of prompts",
                          .where = fmt::format("{}", fmt::join(sources, ", ")),
                          .remedy = "give one of them"});
    }
    if (!config.context.empty() && config.instruction.empty()) {
        faults.push_back({.what = "a context belongs to an instruction, and there is none",
                          .where = "--context",
                          .remedy = "give --instruction TEXT"});
    }
}

}  // namespace

std::string option_value(const Config& config, const Option& option) {
    return std::visit(
        [&](auto field) -> std::string {
            if constexpr (std::is_same_v<decltype(field), std::string Config::*>) {
                return config.*field;
            } else {
                return fmt::format("{}", config.*field);  // the shortest text that reads back
            }
        },
        option.field);
}

void set_option(Config& config, const Option& option, std::string_view text,
                std::string_view where) {
    Config changed = config;
    if (!assign(changed, option, text) || !is_accepted(changed, option)) {
        throw InputError(value_fault(option, text, where));
    }
    config = std::move(changed);
}

void check_config(const Config& config, Command command) {
    std::vector<Fault> faults;
    for (const Option& option : option_table()) {
        if (!belongs_to(option, command)) continue;
        const std::string value = option_value(config, option);
        if (is_required(option, command) && value.empty()) {
            faults.push_back({.what = fmt::format("fedit {} needs --{} {}", to_string(command),
                                                  option.name, option.value),
                              .where = "",
                              .remedy = fmt::format("--{}: {}", option.name, option.help)});
        } else if (!is_accepted(config, option)) {
            faults.push_back(value_fault(option, value, fmt::format("--{}", option.name)));
        }
    }
    if (command == Command::train) check_training(config, faults);
    if (command == Command::evaluate) check_evaluation(config, faults);
    if (command == Command::generate) check_generation(config, faults);
    if (command == Command::bench) check_bench(config, faults);
    if (command == Command::export_folder) check_export(config, faults);
    if (!faults.empty()) throw InputError(std::move(faults));
}

std::vector<std::string> option_names(Command command) {
    std::vector<std::string> names;
    for (const Option& option : option_table()) {
        if (belongs_to(option, command)) names.emplace_back(option.name);
    }
    return names;
}

std::string suggestion(std::string_view name, std::span<const std::string> known,
                       std::string_view prefix) {
    std::string wanted(name);
    if (!known.empty() && known.front().find('_') == std::string::npos) {
        std::replace(wanted.begin(), wanted.end(), '_', '-');
    }
    std::vector<std::string> near = similar_names(wanted, known, 1);
    for (const std::string& candidate : known) {
        const bool part = !wanted.empty() && candidate.find(wanted) != std::string::npos;
        if (near.empty() && part) near.push_back(candidate);
    }
    return near.empty() ? "" : fmt::format("; did you mean {}{}?", prefix, near.front());
}

LoraConfig lora_config(const Config& config) {
    std::vector<std::string> targets = split_list(config.lora_target_modules);
    if (targets == std::vector<std::string>{"all-linear"}) {
        targets = linear_names();
    }
    return {.r = static_cast<int>(config.lora_r),
            .alpha = config.lora_alpha,
            .dropout = config.lora_dropout,
            .target_modules = std::move(targets),
            .use_rslora = config.use_rslora};
}

bool logs_aggregation_error(const Config& config, int round) {
    return config.log_aggregation_error > 0 && (round + 1) % config.log_aggregation_error == 0;
}

Tune tune(const Config& config) {
    return config.tune == "full" ? Tune::full : config.tune == "bitfit" ? Tune::bitfit : Tune::lora;
}

Recompute recompute(const Config& config) {
    if (config.recompute == "layer") return Recompute::layer;
    return config.recompute == "light" ? Recompute::light : Recompute::none;
}

LocalConfig local_config(const Config& config) {
    LocalConfig local;
    local.epochs = static_cast<int>(config.local_epochs);
    local.steps = config.local_steps;
    local.batch_size = static_cast<int>(config.batch_size);
    local.micro_batch_size = static_cast<int>(config.micro_batch_size);
    local.optimizer = config.optimizer == "sgd" ? OptimizerKind::sgd : OptimizerKind::adamw;
    local.schedule.kind = config.lr_scheduler == "linear"   ? LrScheduler::linear
                          : config.lr_scheduler == "cosine" ? LrScheduler::cosine
                                                            : LrScheduler::constant;
    local.schedule.learning_rate = config.learning_rate;
    local.schedule.warmup_steps = config.warmup_steps;
    local.lr_scope = config.lr_scope == "run" ? LrScope::run : LrScope::round;
    local.rounds = static_cast<int>(config.rounds);
    local.weight_decay = config.weight_decay;
    local.max_grad_norm = config.max_grad_norm;
    local.lora_dropout = config.lora_dropout;
    local.seed = static_cast<std::uint64_t>(config.seed);
    local.keep_moments = false;  // they start afresh each round
    return local;
}

PlanConfig plan_config(const Config& config) {
    return {.seed = static_cast<std::uint64_t>(config.seed),
            .fraction = config.client_fraction,
            .cohort = parse_cohort(config).value()};
}

EncodeOptions encode_options(const Config& config) {
    return {.cutoff_len = static_cast<int>(config.cutoff_len),
            .train_on_inputs = config.train_on_inputs};
}

PromptTemplate prompt_template(const Config& config) {
    return config.prompt_template.empty() ? PromptTemplate::built_in()
                                          : PromptTemplate::load(config.prompt_template);
}

std::vector<std::string> split_list(std::string_view text) {
    std::vector<std::string> items;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(','), text.size());
        const std::string_view item = trim(text.substr(0, end));
        if (!item.empty()) items.emplace_back(item);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return items;
}

}  // namespace fedit
