// app/commands.cpp: the list of sub-commands, and the way from a command's name to its function.
#include "app/commands.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::array commands{
    CommandInfo{
        .command = Command::train,
        .summary = "the main job: federated training of LoRA adapters over a frozen base model",
        .usage = "[mpirun -n RANKS | srun --mpi=pmix] fedit train --model FOLDER --data PATH "
                 "--output FOLDER [options]",
        .description =
            "Each rank trains simulated clients, one at a time; after each round the clients' "
            "adapters are averaged by records. The output folder then holds run.h5 (the log), "
            "checkpoints, an adapter that PEFT loads, and config.ini. Killed or stopped, the same "
            "command goes on from the newest checkpoint, on any number of ranks, and ends with the "
            "same bits. --dry-run says beforehand what a run will take.",
        .example =
            "mpirun --bind-to none -n 2 fedit train --model models/llama --data records.jsonl "
            "--num-clients 10 --client-fraction 0.5 --rounds 5 --output runs/first"},
    CommandInfo{
        .command = Command::evaluate,
        .summary = "loss, accuracy and answers on held-out records, of base and adapters",
        .usage = "[mpirun -n RANKS] fedit evaluate --model FOLDER --data PATH [--adapter PATH,...] "
                 "[--generate] [options]",
        .description =
            "By category: the loss (sum of cross-entropies over the labelled tokens divided by "
            "their number), the share of labelled tokens that have the largest logit, with "
            "--generate the ROUGE F-measures of answers, and for records with choices how often "
            "the right choice has the largest log-likelihood as the response (its end token "
            "included), as a sum and divided by its tokens. Records whose prompt leaves no "
            "labelled token are counted apart. The bits are the same on any number of ranks.",
        .example = "fedit evaluate --model models/llama --adapter runs/first/adapter --data "
                   "global_test.json --output-format json"},
    CommandInfo{.command = Command::tokenize,
                .summary = "token ids of texts",
                .usage = "fedit tokenize --tokenizer FOLDER --input FILE.jsonl [options]",
                .description =
                    "Reads one JSON string a line. As text it prints each token with the byte it "
                    "begins at; as json one {\"ids\": [...]} a line.",
                .example = "echo '\"Hello world\"' | fedit tokenize --tokenizer models/llama "
                           "--input - --output-format json"},
    CommandInfo{
        .command = Command::generate,
        .summary = "answers of the model to prompts, one or many, or in a conversation",
        .usage = "[mpirun -n RANKS] fedit generate --model FOLDER [--adapter PATH] [--instruction "
                 "TEXT | --prompt TEXT | --data PATH | --input FILE | --interactive] [options]",
        .description =
            "Answers are greedy unless --temperature is above 0. An answer ends with an end token "
            "(eos_token_id of generation_config.json, else of config.json, and the tokenizer's), "
            "with a stop string, or with --max-new-tokens. As json it prints one {\"prompt_ids\", "
            "\"new_ids\", \"text\", \"finish_reason\"} a line, in the order of the prompts; "
            "finish_reason is stop or length. Random numbers depend on --seed, the record and the "
            "step alone: the answers are the same on any number of ranks. Sampling settings in "
            "generation_config.json are not read.",
        .example = "fedit generate --model models/llama --adapter runs/first/adapter --instruction "
                   "\"Name three rivers.\""},
    CommandInfo{
        .command = Command::init,
        .summary = "a new model folder with random weights",
        .usage = "fedit init --model-config FILE --output FOLDER [--seed N]",
        .description =
            "Writes config.json and model.safetensors: weights normal with the config's "
            "initializer_range, norms 1, biases 0; a pure function of config and seed. A folder "
            "that holds anything is never overwritten.",
        .example =
            "fedit init --model-config data/model/config.json --seed 1 --output models/tiny"},
    CommandInfo{
        .command = Command::export_folder,
        .summary = "an adapter as a PEFT folder, or merged into its base as a model folder",
        .usage = "fedit export --adapter PATH --output FOLDER [--merge --model FOLDER] [options]",
        .description =
            "Makes a PEFT folder of a checkpoint, or of the newest one of a run's folder. With "
            "--merge it adds the adapter of a checkpoint, a run or a PEFT folder to the weights of "
            "--model and writes a whole Hugging Face folder, tokenizer files included. The output "
            "is there whole or not at all, and an old folder is never overwritten.",
        .example = "fedit export --adapter runs/first --merge --model models/llama --save-dtype "
                   "bf16 --output models/tuned"},
    CommandInfo{.command = Command::inspect,
                .summary = "what a run, checkpoint, model or adapter holds",
                .usage = "fedit inspect PATH [--output-format json]",
                .description =
                    "Tells what PATH is (the folder of a run, run.h5, a checkpoint or another "
                    "HDF5 file of ours, a model folder, a PEFT folder, a safetensors file) and "
                    "prints it for reading. Files of ours are checked against their SHA-256 first.",
                .example = "fedit inspect runs/first"},
    CommandInfo{
        .command = Command::bench,
        .summary = "tokens a second of local training, and share of this machine's product rate",
        .usage = "[mpirun -n RANKS] fedit bench --model-config FILE | --model FOLDER [--data FILE] "
                 "[--cohort N] [--profile] [options]",
        .description =
            "Times optimizer steps on the same batch of records again and again, after one step "
            "to warm up: of one client, or of a --cohort of clients with a batch each. FLOP are "
            "counted as 4 x (layer weights x tokens + vocabulary x hidden size x labelled tokens) "
            "a step: forward and the gradient of the activations, since the base is frozen. The "
            "machine's product rate is measured before and after; if the two differ, something "
            "else used the machine, and a warning says so. Under mpirun it times the end of a "
            "round instead: each rank adds one client's update, the ranks sum, and the global "
            "adapter moves.",
        .example = "fedit bench --model-config config.json --batch-size 64 --lora-target-modules "
                   "all-linear --steps 3 --output-format json"},
    CommandInfo{.command = Command::doctor,
                .summary = "what this machine offers, and what stands in the way of a run",
                .usage = "[mpirun -n RANKS | srun --mpi=pmix] fedit doctor [--measure]",
                .description =
                    "Prints processors, memory, MPI, shared memory and devices as the ranks of "
                    "this very launch see them, and names what would slow or stop a run, with "
                    "the remedy.",
                .example = "mpirun -n 2 fedit doctor --measure"},
};

}  // namespace

std::span<const CommandInfo> command_table() {
    return commands;
}

const CommandInfo& command_info(Command command) {
    for (const CommandInfo& info : commands) {
        if (info.command == command) return info;
    }
    throw RunError({.what = "a command is missing from the table of commands",
                    .where = std::string(to_string(command)),
                    .remedy = "report this"});
}

ExitCode run_command(const Context& context, Command command, const Config& config) {
    switch (command) {
        case Command::train:
            return run_training(context, config);
        case Command::evaluate:
            return run_evaluate(context, config);
        case Command::generate:
            return run_generate(context, config);
        case Command::tokenize:
            return run_tokenize(context, config);
        case Command::init:
            return run_init(context, config);
        case Command::export_folder:
            return run_export(context, config);
        case Command::inspect:
            return run_inspect(context, config);
        case Command::bench:
            return run_bench(context, config);
        case Command::doctor:
            return run_doctor(context, config);
    }
    return ExitCode::failure;
}

void print_text(std::string_view text) {
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (!written || std::fflush(stdout) != 0) {
        const int error = errno;
        throw IoError(error,
                      {.what = std::string("cannot write the result: ") + std::strerror(error),
                       .where = "standard output",
                       .remedy = "check the disk or the program that reads the pipe"});
    }
}

void print_result(const Communicator& comm, std::string_view text) {
    if (comm.rank() == 0) print_text(text);
}

}  // namespace fedit
