// experiment/config.h: every option of the program in one table: the parser, --help, config.ini,
// run.h5, the identity of a run and docs/options.md all read it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fedit/federation/partition.h"
#include "fedit/federation/plan.h"
#include "fedit/model/adapter.h"
#include "fedit/model/decoder.h"
#include "fedit/model/dense.h"
#include "fedit/tensor/tensor.h"
#include "fedit/text/dataset.h"
#include "fedit/train/job.h"

namespace fedit {

/// The values of all options of all commands; each command uses those its mask names.
struct Config {
    // input
    std::string model, data, eval_data, init_adapter, adapter, prompt_template, tokenizer, input;
    std::string model_config;
    std::string prompt, instruction, context;
    // federation
    std::int64_t num_clients = 0, rounds = 10;
    double client_fraction = 1;
    std::string partition = "auto";
    double alpha = 0.5;
    std::int64_t min_records = 1, shards_per_client = 2;
    std::string cohort = "1";
    // local training
    std::int64_t local_epochs = 1, local_steps = 0, batch_size = 32, micro_batch_size = 8;
    std::string optimizer = "adamw", lr_scheduler = "constant", lr_scope = "round";
    double learning_rate = 3e-4, weight_decay = 0, max_grad_norm = 0;
    std::int64_t warmup_steps = 0;
    // what trains
    std::string tune = "lora", mode = "federated";
    // adapter
    std::int64_t lora_r = 16;
    double lora_alpha = 16, lora_dropout = 0.05;
    std::string lora_target_modules = "q_proj,k_proj,v_proj,o_proj";
    bool use_rslora = false;
    // text
    std::int64_t cutoff_len = 512;
    bool train_on_inputs = false;
    bool no_special_tokens = false;
    // answers
    std::int64_t max_new_tokens = 256, top_k = 0;
    double temperature = 0, top_p = 1, repetition_penalty = 1;
    std::string stop_strings;
    bool generate = false, interactive = false, plain = false;
    // machine
    std::string device = "auto", dtype = "auto";
    std::int64_t threads = 0;
    std::string recompute = "none";
    std::string reduce = "auto";
    // the run
    std::string output;
    std::int64_t seed = 0;
    std::string resume = "auto";
    std::int64_t eval_every = 1, eval_batch_size = 8, checkpoint_every = 1, keep_last = 3;
    std::int64_t log_aggregation_error = 0;
    double max_walltime = 0;
    double hang_timeout = 0;
    bool dry_run = false, force = false;
    std::string verbosity = "normal", progress = "auto", output_format = "text";
    // bench and doctor
    std::int64_t bench_steps = 3;
    bool measure = false, profile = false;
    // evaluate
    std::string token_losses;
    // export
    bool merge = false;
    std::string save_dtype = "auto";
    double max_shard_size = 5;

    bool operator==(const Config&) const = default;
};

/// Whether an option decides the bits of a run (a resumed run must have the same), or only how it
/// is carried out.
enum class OptionEffect : std::uint8_t { identity, operational };

enum class OptionGroup : std::uint8_t {
    input,
    federation,
    training,
    adapter,
    text,
    generation,
    machine,
    run,
    output
};
std::string_view title(OptionGroup group);

/// The sub-commands that an option belongs to, as bits.
enum class Command : std::uint16_t {
    train = 1,
    evaluate = 2,
    tokenize = 4,
    init = 8,
    inspect = 16,
    bench = 32,
    doctor = 64,
    generate = 128,
    export_folder = 256
};
using CommandMask = std::uint16_t;
constexpr CommandMask mask(Command command) {
    return static_cast<CommandMask>(command);
}
inline constexpr std::array all_commands{
    Command::train,         Command::evaluate, Command::tokenize, Command::generate, Command::init,
    Command::export_folder, Command::inspect,  Command::bench,    Command::doctor};
std::string_view to_string(Command command);

using OptionField =
    std::variant<std::string Config::*, std::int64_t Config::*, double Config::*, bool Config::*>;

/// One option. Names are those of PEFT and Shepherd.
struct Option {
    std::string_view name;  ///< without the leading dashes
    OptionField field;
    OptionGroup group{};
    OptionEffect effect{};
    CommandMask commands = 0;
    std::string_view value;  ///< what --help shows for the value: "FILE", "N"
    std::string_view help;
    std::vector<std::string_view> choices;  ///< for text options with a closed set
    double min = -1e300, max = 1e300;       ///< for numbers, inclusive
    CommandMask required = 0;               ///< the commands that cannot do without it
    bool lines = false;                     ///< for texts: line breaks and tabs are welcome
};

/// All options, in the order of --help.
std::span<const Option> option_table();
const Option* find_option(std::string_view name);  ///< null if there is none
bool belongs_to(const Option& option, Command command);
bool is_required(const Option& option, Command command);

/// The value as config.ini and --help spell it. Doubles are written so that they read back exactly.
std::string option_value(const Config& config, const Option& option);
/// Parses `text` into the field. Throws InputError naming `where`, the value and what is accepted.
void set_option(Config& config, const Option& option, std::string_view text,
                std::string_view where);
/// Checks ranges, choices, combinations and what a command requires; throws InputError with all
/// faults at once. Looks at values only, never at files.
void check_config(const Config& config, Command command);

/// config.ini: "name = value" lines with the option's help as comments, one for each option of the
/// command; read by --config. Line breaks and tabs of a value are written \n, \r, \t in quotes.
std::string to_ini(const Config& config, Command command);
/// Sets the "name = value" lines of an ini text. A line that begins with # is a comment; a value in
/// double quotes keeps its spaces, and \n, \r, \t, \" and \\ mean there what they do in JSON.
/// Throws InputError for lines that are not "name = value", repeated names, unknown names (with the
/// nearest known one) and bad values, all at once.
void apply_ini(Config& config, Command command, std::string_view text, const std::string& source);

/// The names of a command's options, in the order of --help.
std::vector<std::string> option_names(Command command);
/// For the end of a message about an unknown name: "; did you mean PREFIXname?" with the known name
/// that is spelled alike or contains it, or nothing.
std::string suggestion(std::string_view name, std::span<const std::string> known,
                       std::string_view prefix = "");

/// Typed settings taken from a checked config.
LocalConfig local_config(const Config& config);
PlanConfig plan_config(const Config& config);  ///< --cohort auto must be resolved
LoraConfig lora_config(const Config& config);  ///< all-linear is spelled out
Tune tune(const Config& config);
/// Whether the round (from 0) is one of every --log-aggregation-error rounds.
bool logs_aggregation_error(const Config& config, int round);
Recompute recompute(const Config& config);
EncodeOptions encode_options(const Config& config);
PromptTemplate prompt_template(const Config& config);
/// The items of a comma-separated list, without spaces around them and without empty ones.
std::vector<std::string> split_list(std::string_view text);

}  // namespace fedit
