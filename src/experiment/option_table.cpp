// experiment/option_table.cpp: the table of all options.
#include "fedit/experiment/config.h"

namespace fedit {

namespace {

constexpr auto identity = OptionEffect::identity;
constexpr auto operational = OptionEffect::operational;
constexpr CommandMask train = mask(Command::train);
constexpr CommandMask evaluate = mask(Command::evaluate);
constexpr CommandMask tokenize = mask(Command::tokenize);
constexpr CommandMask init = mask(Command::init);
constexpr CommandMask inspect = mask(Command::inspect);
constexpr CommandMask bench = mask(Command::bench);
constexpr CommandMask doctor = mask(Command::doctor);

/// Collects the options of one group after the other.
class Table {
public:
    void begin(OptionGroup group) { group_ = group; }
    void text(std::string_view name, OptionField field, OptionEffect effect, CommandMask commands,
              std::string_view value, std::string_view help,
              std::vector<std::string_view> choices = {}) {
        options_.push_back(
            {name, field, group_, effect, commands, value, help, std::move(choices)});
    }
    void number(std::string_view name, OptionField field, OptionEffect effect, CommandMask commands,
                std::string_view value, double min, double max, std::string_view help) {
        options_.push_back({name, field, group_, effect, commands, value, help, {}, min, max});
    }
    void flag(std::string_view name, OptionField field, OptionEffect effect, CommandMask commands,
              std::string_view help) {
        options_.push_back({name, field, group_, effect, commands, "", help, {}});
    }
    std::vector<Option> take() { return std::move(options_); }

private:
    OptionGroup group_{};
    std::vector<Option> options_;
};

void add_input(Table& table) {
    table.begin(OptionGroup::input);
    table.text("model", &Config::model, operational, train | evaluate | bench, "FOLDER",
               "Hugging Face folder of the frozen base model (config.json, safetensors, "
               "tokenizer.json). Its content, not its path, belongs to the run's identity.");
    table.text("model-config", &Config::model_config, operational, init | bench, "FILE",
               "config.json of a model to make with random weights.");
    table.text("data", &Config::data, operational, train | evaluate | bench, "PATH",
               "Records: a JSON or JSON-lines file, or a folder with local_training_<k>.json and "
               "global_test.json. Keys: instruction, input or context, output or response, "
               "category; or input_ids with labels.");
    table.text("eval-data", &Config::eval_data, operational, train, "FILE",
               "Held-out records, evaluated each round. Default: global_test.json where --data is "
               "a folder, else none.");
    table.text("init-adapter", &Config::init_adapter, operational, train, "FOLDER",
               "PEFT folder of the adapter to start from; it sets rank, alpha and targets. "
               "Default: A Kaiming-uniform, B zero.");
    table.text(
        "adapter", &Config::adapter, operational, evaluate, "PATH",
        "PEFT folder of the adapter to evaluate on top of the base, for example RUN/adapter.");
    table.text("tokenizer", &Config::tokenizer, operational, train | evaluate | tokenize, "FOLDER",
               "Folder with tokenizer.json. Default: the model's folder.");
    table.text("input", &Config::input, operational, tokenize, "FILE",
               "One JSON string a line; - for standard input.");
}

void add_federation(Table& table) {
    table.begin(OptionGroup::federation);
    table.number("num-clients", &Config::num_clients, identity, train, "N", 1, 1e6,
                 "Simulated clients.");
    table.number(
        "client-fraction", &Config::client_fraction, identity, train, "F", 1e-9, 1,
        "Share of the clients sampled each round, max(1, round(F N)) without replacement.");
    table.number(
        "rounds", &Config::rounds, operational, train, "N", 1, 1e6,
        "Federated rounds. A finished run given more of them goes on (part of the identity "
        "only with --lr-scope run).");
    table.text("partition", &Config::partition, identity, train, "KIND",
               "How one file of records is divided: iid; dirichlet (skewed by category, --alpha); "
               "shards (sorted by category); files: client files as they lie. auto: files for a "
               "folder, else iid.",
               {"auto", "iid", "dirichlet", "shards", "files"});
    table.number("alpha", &Config::alpha, identity, train, "A", 1e-3, 1e6,
                 "Concentration of --partition dirichlet; small is skewed.");
    table.number(
        "min-records", &Config::min_records, identity, train, "N", 0, 1e9,
        "Records every client must have with --partition dirichlet; redrawn until it holds.");
    table.number("shards-per-client", &Config::shards_per_client, identity, train, "N", 1, 1e6,
                 "Shards each client gets with --partition shards.");
}

void add_training(Table& table) {
    table.begin(OptionGroup::training);
    table.number("local-epochs", &Config::local_epochs, identity, train, "N", 1, 1e6,
                 "Passes of a client over its records a round.");
    table.number("local-steps", &Config::local_steps, identity, train, "N", 0, 1e9,
                 "Exactly N optimizer steps a round instead of --local-epochs; 0: use epochs.");
    table.number("batch-size", &Config::batch_size, identity, train | bench, "N", 1, 1e6,
                 "Records an optimizer step.");
    table.number("micro-batch-size", &Config::micro_batch_size, identity, train | bench, "N", 1,
                 1e6, "Records in one pass; memory grows with it.");
    table.text("optimizer", &Config::optimizer, identity, train, "NAME", "Local optimizer.",
               {"adamw", "sgd"});
    table.number("learning-rate", &Config::learning_rate, identity, train, "X", 0, 1e6,
                 "Peak learning rate.");
    table.text("lr-scheduler", &Config::lr_scheduler, identity, train, "NAME",
               "Learning rate by step.", {"constant", "linear", "cosine"});
    table.text("lr-scope", &Config::lr_scope, identity, train, "NAME",
               "Whether the schedule restarts each round or spans the run.", {"round", "run"});
    table.number("warmup-steps", &Config::warmup_steps, identity, train, "N", 0, 1e9,
                 "Steps of linear warm-up.");
    table.number("weight-decay", &Config::weight_decay, identity, train, "X", 0, 1e3,
                 "Decoupled weight decay.");
    table.number("max-grad-norm", &Config::max_grad_norm, identity, train, "X", 0, 1e9,
                 "Clip the gradient's norm; 0: off.");
}

void add_adapter(Table& table) {
    table.begin(OptionGroup::adapter);
    table.number("lora-r", &Config::lora_r, identity, train | bench, "N", 1, 4096,
                 "Rank of the adapters.");
    table.number("lora-alpha", &Config::lora_alpha, identity, train | bench, "X", 1e-9, 1e6,
                 "Scale is alpha / r.");
    table.number("lora-dropout", &Config::lora_dropout, identity, train | bench, "P", 0, 0.999,
                 "Dropout on the adapters' input.");
    table.text("lora-target-modules", &Config::lora_target_modules, identity, train | bench, "LIST",
               "Linear layers with an adapter, by comma: q_proj k_proj v_proj o_proj gate_proj "
               "up_proj down_proj, or all-linear.");
    table.flag("use-rslora", &Config::use_rslora, identity, train,
               "Scale alpha / sqrt(r) instead.");
}

void add_text(Table& table) {
    table.begin(OptionGroup::text);
    table.text("prompt-template", &Config::prompt_template, operational, train | evaluate, "FILE",
               "Prompt template in Shepherd's JSON form; its content belongs to the run's "
               "identity. Default: built in.");
    table.number("cutoff-len", &Config::cutoff_len, identity, train | evaluate | bench, "N", 1, 1e6,
                 "Tokens kept of a record.");
    table.flag("train-on-inputs", &Config::train_on_inputs, identity, train | evaluate,
               "Put the prompt's tokens into the loss as well.");
    table.flag("no-special-tokens", &Config::no_special_tokens, operational, tokenize,
               "Leave out BOS and EOS.");
}

void add_machine(Table& table) {
    table.begin(OptionGroup::machine);
    table.text("device", &Config::device, identity, train | evaluate | bench, "NAME",
               "Where ranks compute; auto: the best this build has.", {"auto", "cpu", "cuda"});
    table.text("dtype", &Config::dtype, identity, train | evaluate | bench, "NAME",
               "Precision of the products with the base; adapters stay fp32. auto: bf16 where the "
               "device is fast in it, else fp32.",
               {"auto", "fp32", "bf16"});
    table.number(
        "threads", &Config::threads, identity, train | evaluate | bench, "N", 0, 4096,
        "Threads a rank; 0: the cores this rank may use, divided by the ranks of its node.");
    table.number("hang-timeout", &Config::hang_timeout, operational, train, "S", 0, 1e9,
                 "Seconds after which a rank that waits for others names the missing ones and ends "
                 "the run; 0: never.");
}

void add_run(Table& table) {
    table.begin(OptionGroup::run);
    table.number("seed", &Config::seed, identity, train | init | bench, "N", 0, 9e15,
                 "Seed of every random stream.");
    table.text("resume", &Config::resume, operational, train, "HOW",
               "auto: continue from the newest intact checkpoint in --output; never: refuse a "
               "folder with a run in it; or a checkpoint file.");
    table.number("eval-every", &Config::eval_every, operational, train, "N", 0, 1e9,
                 "Evaluate every N rounds and after the last; 0: never.");
    table.number("eval-batch-size", &Config::eval_batch_size, identity, train | evaluate, "N", 1,
                 1e6, "Records in one evaluation pass.");
    table.number("checkpoint-every", &Config::checkpoint_every, operational, train, "N", 1, 1e9,
                 "Rounds between checkpoints.");
    table.number("keep-last", &Config::keep_last, operational, train, "N", 0, 1e9,
                 "Checkpoints and adapters kept; 0: all.");
    table.number("max-walltime", &Config::max_walltime, operational, train, "MIN", 0, 1e9,
                 "Minutes after which the run saves itself, half-trained clients too, and ends "
                 "with 75; 0: no limit.");
    table.flag("dry-run", &Config::dry_run, operational, train,
               "Do everything but train: who holds what, memory, disk, bytes a round.");
    table.flag("force", &Config::force, operational, train,
               "Take over an output folder whose lock looks alive.");
    table.number("steps", &Config::bench_steps, operational, bench, "N", 1, 1e6,
                 "Optimizer steps to time, after one to warm up.");
}

void add_output(Table& table) {
    table.begin(OptionGroup::output);
    table.text("output", &Config::output, operational, train | init, "FOLDER",
               "Where results go; made if absent.");
    table.text("output-format", &Config::output_format, operational,
               evaluate | tokenize | inspect | bench | doctor, "FORM",
               "text for people, json for programs.", {"text", "json"});
    table.text("verbosity", &Config::verbosity, operational, train | evaluate | bench, "LEVEL",
               "How much is said.", {"quiet", "normal", "verbose"});
    table.text("progress", &Config::progress, operational, train, "STYLE",
               "live: one moving line; plain: a line every 10 s; auto: live on a terminal.",
               {"auto", "live", "plain", "none"});
}

}  // namespace

std::span<const Option> option_table() {
    static const std::vector<Option> options = [] {
        Table table;
        add_input(table);
        add_federation(table);
        add_training(table);
        add_adapter(table);
        add_text(table);
        add_machine(table);
        add_run(table);
        add_output(table);
        return table.take();
    }();
    return options;
}

}  // namespace fedit
