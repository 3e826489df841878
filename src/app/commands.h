// app/commands.h: the sub-commands, one function each, and how --help describes them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "fedit/core/error.h"
#include "fedit/experiment/config.h"
#include "fedit/experiment/experiment.h"

namespace fedit {

/// How --help introduces a command.
struct CommandInfo {
    Command command{};
    std::string_view summary;      ///< half a line, for the list of commands
    std::string_view usage;        ///< what follows "usage: "
    std::string_view description;  ///< what it does, in and out
    std::string_view example;      ///< a command line that can be typed
};

/// All commands, in the order of --help.
std::span<const CommandInfo> command_table();
const CommandInfo& command_info(Command command);

/// Runs a command on checked settings. Collective. Returns done or stopped; throws otherwise.
ExitCode run_command(const Context& context, Command command, const Config& config);

/// Loss, accuracy and answers' ROUGE on held-out records, by category, for base and adapters.
ExitCode run_evaluate(const Context& context, const Config& config);
/// Answers to prompts, from the base or from base + adapter.
ExitCode run_generate(const Context& context, const Config& config);
/// Token ids of texts, one JSON string a line.
ExitCode run_tokenize(const Context& context, const Config& config);
/// A new model folder with random weights.
ExitCode run_init(const Context& context, const Config& config);
/// An adapter as a PEFT folder, or merged into its base.
ExitCode run_export(const Context& context, const Config& config);
/// What a run, a file of ours, a model or an adapter is.
ExitCode run_inspect(const Context& context, const Config& config);
/// Tokens a second of one client's local training on this machine.
ExitCode run_bench(const Context& context, const Config& config);
/// What this machine offers, and what stands in the way of a run.
ExitCode run_doctor(const Context& context, const Config& config);

/// Prints on standard output. IoError if it cannot be written: a program that reads it must not
/// take a part for the whole.
void print_text(std::string_view text);
/// Prints a command's result, on rank 0 only.
void print_result(const Communicator& comm, std::string_view text);

}  // namespace fedit
