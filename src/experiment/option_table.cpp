// experiment/option_table.cpp: the table of all options, and the names of commands and groups.
#include "fedit/experiment/config.h"

namespace fedit {

namespace {

constexpr auto identity = OptionEffect::identity;
constexpr auto operational = OptionEffect::operational;
constexpr CommandMask train = mask(Command::train);
constexpr CommandMask evaluate = mask(Command::evaluate);
constexpr CommandMask tokenize = mask(Command::tokenize);
constexpr CommandMask init = mask(Command::init);
constexpr CommandMask export_folder = mask(Command::export_folder);
constexpr CommandMask inspect = mask(Command::inspect);
constexpr CommandMask bench = mask(Command::bench);
constexpr CommandMask doctor = mask(Command::doctor);
constexpr CommandMask generate = mask(Command::generate);

/// Collects the options of one group after the other.
class Table {
public:
    void begin(OptionGroup group) { group_ = group; }
    Option& text(std::string_view name, OptionField field, OptionEffect effect,
                 CommandMask commands, std::string_view value, std::string_view help,
                 std::vector<std::string_view> choices = {}) {
        options_.push_back(
            {name, field, group_, effect, commands, value, help, std::move(choices)});
        return options_.back();
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
    table
        .text("model", &Config::model, operational,
              train | evaluate | generate | export_folder | bench, "FOLDER",
              "Hugging Face folder of the frozen base model: config.json, safetensors (one file or "
              "shards), tokenizer.json. Its content, not its path, belongs to the run's identity.")
        .required = train | evaluate | generate;
    table
        .text("model-config", &Config::model_config, operational, init | bench, "FILE",
              "config.json of a model to make with random weights.")
        .required = init;
    table
        .text("data", &Config::data, operational, train | evaluate | generate | bench, "PATH",
              "Records: a JSON or JSON-lines file, or a folder with local_training_<k>.json and "
              "global_test.json. Keys: instruction, input or context, output or response, "
              "category; or text alone (no prompt: all is learned, nothing answered); or input_ids "
              "with labels (-100: "
              "none). evaluate and generate read a folder's "
              "global_test.json; bench makes records up when this is left out. evaluate also ranks "
              "the choices of records that have choices and answer (an index from 0, or the text).")
        .required = train | evaluate;
    table.text("eval-data", &Config::eval_data, operational, train, "FILE",
               "Held-out records, evaluated every --eval-every rounds. Left out: global_test.json "
               "where --data is a folder, else no evaluation.");
    table.text("init-adapter", &Config::init_adapter, operational, train, "FOLDER",
               "PEFT folder of the adapter to start from; it sets rank, alpha and targets. Left "
               "out: A is Kaiming-uniform and B zero, so training starts from the base model.");
    table
        .text("adapter", &Config::adapter, operational, evaluate | generate | export_folder, "PATH",
              "Adapter on top of the base: a PEFT folder, for example RUN/adapter, or a checkpoint "
              "file of ours; export also takes a run's folder, and its newest checkpoint. "
              "evaluate and generate without it: the base alone. evaluate takes several by comma, "
              "and the word base for the base alone, and shows them side by side.")
        .required = export_folder;
    const auto spoken = [&](std::string_view name, std::string Config::*field,
                            std::string_view help) {
        table.text(name, field, operational, generate, "TEXT", help).lines = true;
    };
    spoken("prompt", &Config::prompt, "A plain prompt, which the model goes on with as it stands.");
    spoken("instruction", &Config::instruction, "An instruction, which the prompt template wraps.");
    spoken("context", &Config::context, "What the instruction is about: a record's input.");
    table
        .text("tokenizer", &Config::tokenizer, operational, train | evaluate | generate | tokenize,
              "FOLDER", "Folder with tokenizer.json. Left out: the model's folder.")
        .required = tokenize;
    table
        .text("input", &Config::input, operational, generate | tokenize, "FILE",
              "Texts to tokenize, or plain prompts, one JSON string a line (a prompt may also be a "
              "list of token ids); - for standard input.")
        .required = tokenize;
    table
        .text("path", &Config::input, operational, inspect, "PATH",
              "What to look at: a run's folder, run.h5, a checkpoint, a model folder or a PEFT "
              "folder. May stand alone, without --path.")
        .required = inspect;
}

void add_federation(Table& table) {
    table.begin(OptionGroup::federation);
    table.text("mode", &Config::mode, identity, train, "NAME",
               "federated: clients train by themselves and are averaged each round. To compare "
               "with: centralized: one client has all records. local: each client goes on with "
               "what it has, nothing is averaged, and each keeps a result of its own.",
               {"federated", "centralized", "local"});
    table.number("num-clients", &Config::num_clients, identity, train, "N", 0, 1e6,
                 "Simulated clients; 0: as many as --data has client files, else 10. Any number "
                 "of ranks shares them out; who computes a client changes no bit of the result.");
    table.number("client-fraction", &Config::client_fraction, identity, train, "F", 1e-9, 1,
                 "Share of the clients sampled each round: max(1, round(F x clients)), without "
                 "replacement.");
    table.number("rounds", &Config::rounds, operational, train, "N", 1, 1e6,
                 "Federated rounds: in each, the sampled clients train from the global adapter and "
                 "their adapters are averaged by records. A finished run given more rounds goes on "
                 "(with --lr-scope run the number belongs to the identity).");
    table.text("partition", &Config::partition, identity, train, "KIND",
               "How one file of records is divided among clients. iid: at random. dirichlet: "
               "skewed by category, see --alpha. shards: sorted by category and dealt in blocks. "
               "files: a folder's client files as they lie. auto: files for a folder, else iid.",
               {"auto", "iid", "dirichlet", "shards", "files"});
    table.number(
        "alpha", &Config::alpha, identity, train, "A", 1e-3, 1e6,
        "Concentration of --partition dirichlet: 0.1 is strongly skewed, 100 nearly even.");
    table.number("min-records", &Config::min_records, identity, train, "N", 0, 1e9,
                 "Records that every client must have with --partition dirichlet; the division is "
                 "redrawn until it holds.");
    table.number("shards-per-client", &Config::shards_per_client, identity, train, "N", 1, 1e6,
                 "Blocks that each client gets with --partition shards; 1 is one category a "
                 "client, more or less.");
    table.text("cohort", &Config::cohort, identity, train | bench, "N",
               "Clients that train in one pass over the base, those of similar size together: "
               "faster where clients are too small to fill a pass. Each still trains as if alone. "
               "auto: chosen once, when the run is created, from the clients' sizes and the "
               "memory, and leaving eight cohorts a round for ranks to share; 1 where clients are "
               "few or large.");
}

void add_training(Table& table) {
    table.begin(OptionGroup::training);
    table.text("tune", &Config::tune, identity, train, "WHAT",
               "What trains. lora: adapters beside the frozen base. full: every weight of the "
               "base; the result is a model folder. bitfit: its biases alone, where it has some "
               "(arXiv 2106.10199).",
               {"lora", "full", "bitfit"});
    table.number("local-epochs", &Config::local_epochs, identity, train, "N", 1, 1e6,
                 "Passes of a client over its own records in one round.");
    table.number("local-steps", &Config::local_steps, identity, train, "N", 0, 1e9,
                 "Exactly N optimizer steps a round instead of --local-epochs; 0: use epochs.");
    table.number("batch-size", &Config::batch_size, identity, train | bench, "N", 1, 1e6,
                 "Records in one optimizer step. The loss is the mean over the labelled tokens of "
                 "the whole batch.");
    table.number("micro-batch-size", &Config::micro_batch_size, identity, train | bench, "N", 1,
                 1e6,
                 "Records in one pass through the model, at most --batch-size; left out: 8, or "
                 "--batch-size where that is less. Memory grows with it; speed too, up to some "
                 "hundreds of tokens.");
    table.text("optimizer", &Config::optimizer, identity, train, "NAME",
               "Local optimizer, started afresh each round. adamw: betas 0.9 and 0.999, eps 1e-8.",
               {"adamw", "sgd"});
    table.number("learning-rate", &Config::learning_rate, identity, train | bench, "X", 0, 1e6,
                 "Learning rate at its peak.");
    table.text("lr-scheduler", &Config::lr_scheduler, identity, train, "NAME",
               "Learning rate after warm-up: constant, or down to zero linearly or by a cosine.",
               {"constant", "linear", "cosine"});
    table.text("lr-scope", &Config::lr_scope, identity, train, "NAME",
               "round: the schedule starts again each round. run: it spans all rounds.",
               {"round", "run"});
    table.number("warmup-steps", &Config::warmup_steps, identity, train, "N", 0, 1e9,
                 "Optimizer steps over which the learning rate rises from zero.");
    table.number("weight-decay", &Config::weight_decay, identity, train, "X", 0, 1e3,
                 "Decoupled weight decay of the adapter.");
    table.number("max-grad-norm", &Config::max_grad_norm, identity, train, "X", 0, 1e9,
                 "Scale a step's gradient down to this norm; 0: never.");
}

void add_adapter(Table& table) {
    table.begin(OptionGroup::adapter);
    table.number("lora-r", &Config::lora_r, identity, train | bench, "N", 1, 4096,
                 "Rank of the adapters: what a client sends grows with it.");
    table.number("lora-alpha", &Config::lora_alpha, identity, train | bench, "X", 1e-9, 1e6,
                 "The adapter's product is scaled by alpha / r.");
    table.number("lora-dropout", &Config::lora_dropout, identity, train | bench, "P", 0, 0.999,
                 "Probability with which an element of an adapter's input is dropped in training.");
    table.text("lora-target-modules", &Config::lora_target_modules, identity, train | bench, "LIST",
               "Linear layers that get an adapter, by comma, of q_proj, k_proj, v_proj, o_proj, "
               "gate_proj, up_proj, down_proj; or all-linear.");
    table.flag("use-rslora", &Config::use_rslora, identity, train | bench,
               "Scale by alpha / sqrt(r) instead (arXiv 2312.03732).");
}

void add_text(Table& table) {
    table.begin(OptionGroup::text);
    table.text("prompt-template", &Config::prompt_template, operational,
               train | evaluate | generate, "FILE",
               "Prompt template in Shepherd's JSON form (prompt_input, prompt_no_input, "
               "response_split); its content belongs to the run's identity. Left out: the "
               "program's own.");
    table.number("cutoff-len", &Config::cutoff_len, identity, train | evaluate | bench, "N", 1, 1e6,
                 "Tokens kept of a record; what lies behind is cut, and so is its end token.");
    table.flag("train-on-inputs", &Config::train_on_inputs, identity, train | evaluate,
               "Put the prompt's tokens into the loss too, not the response's alone.");
    table.flag("no-special-tokens", &Config::no_special_tokens, operational, tokenize,
               "Leave out the tokens that the tokenizer's template adds around a text.");
}

void add_generation(Table& table) {
    table.begin(OptionGroup::generation);
    const CommandMask both = evaluate | generate;
    table.flag("generate", &Config::generate, operational, evaluate,
               "Also let the model answer each record's prompt, and compare the answers with the "
               "responses: ROUGE-1, -2, -L and -Lsum without stemming.");
    table.number("max-new-tokens", &Config::max_new_tokens, operational, both, "N", 1, 1e6,
                 "Tokens of an answer at most; the model's positions may end it before.");
    table.number("temperature", &Config::temperature, operational, both, "T", 0, 1e3,
                 "0: greedy, always the most likely token. Above: sampling, from logits divided by "
                 "T; 1 is the model's own distribution.");
    table.number("top-k", &Config::top_k, operational, both, "K", 0, 1e9,
                 "Sample among the K most likely tokens; 0: all.");
    table.number("top-p", &Config::top_p, operational, both, "P", 1e-9, 1,
                 "Sample among the fewest tokens whose probabilities add up to P; 1: all.");
    table.number("repetition-penalty", &Config::repetition_penalty, operational, both, "X", 1e-3,
                 1e3,
                 "Logits of tokens that prompt or answer hold are divided by X, negative ones "
                 "multiplied; 1: no penalty.");
    table
        .text("stop-strings", &Config::stop_strings, operational, both, "TEXT",
              "A text that ends an answer and is left out of it, or a JSON list of such texts: "
              "[\"\\n\\n\", \"###\"]. It may begin in the prompt. The model's end tokens always "
              "end an answer.")
        .lines = true;
    table.flag("interactive", &Config::interactive, operational, generate,
               "Read instructions from standard input, one a line, and answer each as its tokens "
               "come. This is what happens on a terminal where nothing is asked.");
    table.flag("plain", &Config::plain, operational, generate,
               "Take the lines of --interactive as plain prompts, without the template.");
}

void add_machine(Table& table) {
    table.begin(OptionGroup::machine);
    table.text("device", &Config::device, identity, train | evaluate | generate | bench, "NAME",
               "Where ranks compute. cuda: the GPU of a rank's place on its node, modulo their "
               "number (CUDA_VISIBLE_DEVICES hides some); ranks on one GPU share its base model. "
               "auto: cuda where the build has it and every rank finds a GPU, else cpu.",
               {"auto", "cpu", "cuda"});
    table.text("dtype", &Config::dtype, identity, train | evaluate | generate | bench, "NAME",
               "Precision of what products multiply: with the base model, in attention, of "
               "adapters. Adapters themselves, what they gather and every sum stay fp32. auto: "
               "bf16 where the device is fast in it, else fp32.",
               {"auto", "fp32", "bf16"});
    table.number("threads", &Config::threads, operational,
                 train | evaluate | generate | bench | doctor, "N", 0, 4096,
                 "Threads a rank; their number changes no bit. 0: the cores this rank may use, "
                 "divided by the ranks of its node.");
    table.text("recompute", &Config::recompute, operational, train | bench, "WHAT",
               "What a training pass computes again in its backward to save memory; no bit of the "
               "result changes. light: what norms and SwiGLU give, at little cost. layer: all of a "
               "layer but its input, for a third more time.",
               {"none", "light", "layer"});
    table.text("reduce", &Config::reduce, operational, train | bench, "HOW",
               "How the ranks' updates are summed. auto: by NCCL where every rank has a GPU of its "
               "own, else by MPI through host memory. The bits are the same.",
               {"auto", "mpi"});
    table.number("hang-timeout", &Config::hang_timeout, operational, train, "S", 0, 1e9,
                 "Seconds after which a rank that waits for others names the missing ones and ends "
                 "the run; 0: never.");
}

void add_run(Table& table) {
    table.begin(OptionGroup::run);
    table.number("seed", &Config::seed, identity, train | evaluate | generate | init | bench, "N",
                 0, 9e15,
                 "Seed of every random stream: partition, sampling, order, dropout, initial "
                 "values; of an answer's tokens, by record and step.");
    table.text("resume", &Config::resume, operational, train, "HOW",
               "auto: go on from the newest intact checkpoint in --output, if there is one. never: "
               "refuse a folder with a run in it. Else a checkpoint file to go on from.");
    table.number("eval-every", &Config::eval_every, operational, train, "N", 0, 1e9,
                 "Evaluate every N rounds and after the last; 0: never.");
    table.number("eval-batch-size", &Config::eval_batch_size, identity, train | evaluate | generate,
                 "N", 1, 1e6, "Records in one evaluation pass, or answered side by side.");
    table.number("log-aggregation-error", &Config::log_aggregation_error, operational, train, "N",
                 0, 1e9,
                 "Every N rounds, log how far averaging A and B apart is from averaging the "
                 "products B A (/rounds/aggregation_error); the round then keeps its clients' "
                 "adapters until its end. 0: never.");
    table.number("checkpoint-every", &Config::checkpoint_every, operational, train, "N", 1, 1e9,
                 "Rounds between checkpoints; a kill costs at most the rounds since the last.");
    table.number("keep-last", &Config::keep_last, operational, train, "N", 0, 1e9,
                 "Checkpoints and adapters kept; 0: all.");
    table.number("max-walltime", &Config::max_walltime, operational, train, "MIN", 0, 1e9,
                 "Minutes after which the run saves itself, half-trained clients too, and ends "
                 "with code 75 (run me again); 0: no limit.");
    table.flag("dry-run", &Config::dry_run, operational, train,
               "Do everything but train: print who holds what, memory, disk and bytes a round.");
    table.flag("force", &Config::force, operational, train,
               "Take over an output folder whose lock looks alive.");
    table.number("steps", &Config::bench_steps, operational, bench, "N", 1, 1e6,
                 "Optimizer steps to time, after one to warm up; the median counts.");
    table.flag("profile", &Config::profile, operational, bench,
               "Also run the steps again with every operation timed: seconds by phase and by "
               "operation.");
    table.flag("measure", &Config::measure, operational, doctor,
               "Also measure how fast this machine multiplies matrices (some seconds).");
}

void add_output(Table& table) {
    table.begin(OptionGroup::output);
    table
        .text("output", &Config::output, operational, train | init | export_folder, "FOLDER",
              "Where results go; made if absent. A run writes run.h5, checkpoints, adapters and "
              "config.ini there; a file named stop in it asks the run to save itself and end.")
        .required = train | init | export_folder;
    table.text("token-losses", &Config::token_losses, operational, evaluate, "FILE",
               "Also write the loss of every labelled token there, in nats, a JSON object "
               "{\"losses\": [...]} a line for each record: to compare with other programs. A "
               "record is one pass, on rank 0.");
    table.flag("merge", &Config::merge, operational, export_folder,
               "Add the adapter to the weights of --model and write the whole model.");
    table.text("save-dtype", &Config::save_dtype, operational, export_folder, "NAME",
               "What a merged model's weights are stored as; auto: each as the base stores it.",
               {"auto", "fp32", "bf16", "fp16"});
    table.number("max-shard-size", &Config::max_shard_size, operational, export_folder, "GB", 1e-6,
                 1e6,
                 "A merged model's weights go into files of at most this many gigabytes (1e9 "
                 "bytes); one that is larger gets a file of its own.");
    table.text("output-format", &Config::output_format, operational,
               evaluate | generate | tokenize | inspect | bench | doctor, "FORM",
               "text for people, json for programs.", {"text", "json"});
    table.text("verbosity", &Config::verbosity, operational, train | evaluate | generate | bench,
               "LEVEL", "How much is said on standard error.", {"quiet", "normal", "verbose"});
    table.text("progress", &Config::progress, operational, train, "STYLE",
               "live: one moving line. plain: a line every 10 s. auto: live on a terminal, else "
               "plain.",
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
        add_generation(table);
        add_machine(table);
        add_run(table);
        add_output(table);
        return table.take();
    }();
    return options;
}

const Option* find_option(std::string_view name) {
    for (const Option& option : option_table()) {
        if (option.name == name) return &option;
    }
    return nullptr;
}

bool belongs_to(const Option& option, Command command) {
    return (option.commands & mask(command)) != 0;
}

bool is_required(const Option& option, Command command) {
    return (option.required & mask(command)) != 0;
}

std::string_view title(OptionGroup group) {
    switch (group) {
        case OptionGroup::input:
            return "Input";
        case OptionGroup::federation:
            return "Federation";
        case OptionGroup::training:
            return "Local training";
        case OptionGroup::adapter:
            return "Adapter";
        case OptionGroup::text:
            return "Text";
        case OptionGroup::generation:
            return "Answers";
        case OptionGroup::machine:
            return "Machine";
        case OptionGroup::run:
            return "The run";
        case OptionGroup::output:
            return "Output";
    }
    return "";
}

std::string_view to_string(Command command) {
    switch (command) {
        case Command::train:
            return "train";
        case Command::evaluate:
            return "evaluate";
        case Command::generate:
            return "generate";
        case Command::tokenize:
            return "tokenize";
        case Command::init:
            return "init";
        case Command::export_folder:
            return "export";
        case Command::inspect:
            return "inspect";
        case Command::bench:
            return "bench";
        case Command::doctor:
            return "doctor";
    }
    return "";
}

}  // namespace fedit
