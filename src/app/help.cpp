// app/help.cpp: lays out the tables of options and commands for a terminal and for docs/options.md.
#include "app/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <optional>
#include <vector>

#include "app/commands.h"
#include "fedit/core/build_info.h"

namespace fedit {
namespace {

constexpr std::size_t line_width = 98;
constexpr std::size_t help_column = 34;

constexpr std::array general{
    GeneralOption{
        "config", "FILE",
        "Settings as name = value lines, the names as below; the command line goes before "
        "them."},
    GeneralOption{"dump-config", "", "Print the settings as such a file and do nothing else."},
    GeneralOption{"help", "", "Print this text."},
    GeneralOption{"version", "", "Print version, commit and compiler."},
};

/// Breaks `text` between words so that no line passes line_width; lines after the first are
/// indented, the first is taken to begin at `column`. `line_end` goes before each break.
std::string wrap(std::string_view text, std::size_t indent, std::size_t column,
                 std::string_view line_end = "") {
    std::string out;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, end);
        if (column > indent && column + 1 + word.size() > line_width) {
            out += fmt::format("{}\n{:{}}", line_end, "", indent);
            column = indent;
        } else if (column > indent) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

/// One entry of a list of options: the head on the left, the text on the right.
std::string entry(std::string_view head, std::string_view text) {
    std::string out = fmt::format("  {:<{}}", head, help_column - 2);
    if (out.size() > help_column) out += '\n' + std::string(help_column, ' ');
    return out + wrap(text, help_column, help_column) + '\n';
}

std::string spelled(std::string_view name, std::string_view value) {
    return fmt::format("--{}{}{}", name, value.empty() ? "" : " ", value);
}

bool is_flag(const Option& option) {
    return std::holds_alternative<bool Config::*>(option.field);
}

/// "required", "default: 16" or nothing.
std::string default_text(const Option& option, std::optional<Command> command) {
    if (command && is_required(option, *command)) return "required";
    const std::string value = option_value(Config{}, option);
    return is_flag(option) || value.empty() ? "" : "default: " + value;
}

std::string option_text(const Option& option, Command command) {
    std::string text(option.help);
    if (!option.choices.empty()) {
        text += fmt::format(" One of {}.", fmt::join(option.choices, ", "));
    }
    const std::string fallback = default_text(option, command);
    return fallback.empty() ? text : fmt::format("{} ({})", text, fallback);
}

std::string paragraph(std::string_view text) {
    return wrap(text, 0, 0) + '\n';
}

/// For a table cell of Markdown.
std::string cell(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '|' || c == '<' || c == '>') out += '\\';
        out += c;
    }
    return out;
}

std::string command_names(const Option& option) {
    std::vector<std::string_view> names;
    for (const CommandInfo& info : command_table()) {
        if (belongs_to(option, info.command)) names.push_back(to_string(info.command));
    }
    return fmt::format("{}", fmt::join(names, ", "));
}

std::string default_cell(const Option& option) {
    if (option.required == option.commands) return "required";
    const std::string value = option_value(Config{}, option);
    return value.empty() ? "" : fmt::format("`{}`", value);
}

std::string commands_markdown() {
    std::string text;
    for (const CommandInfo& info : command_table()) {
        text += fmt::format("## fedit {}\n\n{}\n\nUsage: `{}`\n\nExample:\n\n```sh\n{}\n```\n\n",
                            to_string(info.command), info.description, info.usage, info.example);
    }
    return text;
}

}  // namespace

std::span<const GeneralOption> general_options() {
    return general;
}

std::string version_text() {
    const BuildInfo build = build_info();
    return fmt::format("fedit {}\ncommit {}{}\n{}, {}\n", build.version, build.git_commit,
                       build.git_dirty ? " (changed since)" : "", build.compiler, build.build_type);
}

std::string overview_help() {
    std::string text = fmt::format(
        "fedit {}: federated instruction tuning under MPI.\n\n"
        "usage: [mpirun -n RANKS | srun --mpi=pmix] fedit COMMAND [options]\n\ncommands:\n",
        build_info().version);
    for (const CommandInfo& info : command_table()) {
        text += fmt::format("  {:<10}{}\n", to_string(info.command), wrap(info.summary, 12, 12));
    }
    text += fmt::format("  {:<10}{}\n\n", "options", "all options as Markdown (docs/options.md)");
    text +=
        "a first run, from building to a trained adapter: jobs/quickstart.sh; on data of your "
        "own:\n"
        "  fedit doctor\n"
        "  mpirun --bind-to none -n 2 fedit train --model FOLDER --data FILE --output runs/first\n"
        "  fedit inspect runs/first\n\n"
        "exit codes: 0 done; 2 bad input or configuration; 1 failure while running; 75 saved on\n"
        "request, run me again.\n\n"
        "fedit COMMAND --help teaches a command; fedit --version says what this program is.\n";
    return text;
}

std::string command_help(Command command) {
    const CommandInfo& info = command_info(command);
    std::string text = fmt::format("fedit {}: {}\n\n", to_string(command), info.summary);
    text += fmt::format("usage: {}\n\n", wrap(info.usage, 7, 7));
    text += paragraph(info.description);
    text += fmt::format("\nexample:\n  {}\n", wrap(info.example, 4, 2, " \\"));
    std::optional<OptionGroup> group;
    bool starred = false;
    for (const Option& option : option_table()) {
        if (!belongs_to(option, command)) continue;
        if (group != option.group) text += fmt::format("\n{}:\n", title(option.group));
        group = option.group;
        const bool star = command == Command::train && option.effect == OptionEffect::identity;
        starred = starred || star;
        text += entry(spelled(option.name, option.value) + (star ? " *" : ""),
                      option_text(option, command));
    }
    text += "\nGeneral:\n";
    for (const GeneralOption& option : general) {
        text += entry(spelled(option.name, option.value), option.help);
    }
    if (starred) {
        text += "\n" + paragraph(
                           "* belongs to the run's identity: it decides the bits of the "
                           "result, so a run that is resumed must have the same value.");
    }
    return text;
}

std::string options_markdown() {
    std::string text =
        "# Commands and options of fedit\n\n"
        "Printed by `fedit options`; do not edit. Precedence: command line, then `--config FILE` "
        "(`name = value` lines with the names below; paths are relative to the working folder), "
        "then the default. Names are written in full, each once. A flag may be written "
        "`--name=false`.\n\n"
        "Exit codes: 0 done; 2 bad input or configuration; 1 failure while running; 75 saved on "
        "request, run me again.\n\n";
    text += commands_markdown();
    text += "## General options\n\n| option | meaning |\n|---|---|\n";
    for (const GeneralOption& option : general) {
        text +=
            fmt::format("| `{}` | {} |\n", spelled(option.name, option.value), cell(option.help));
    }
    text +=
        "\nIn the tables below, \\* marks what belongs to a run's identity: it decides the "
        "bits, so a resumed run must have the same value.\n";
    std::optional<OptionGroup> group;
    for (const Option& option : option_table()) {
        if (group != option.group) {
            text += fmt::format(
                "\n## {}\n\n| option | default | commands | meaning |\n"
                "|---|---|---|---|\n",
                title(option.group));
        }
        group = option.group;
        const std::string choices =
            option.choices.empty() ? ""
                                   : fmt::format(" One of {}.", fmt::join(option.choices, ", "));
        text +=
            fmt::format("| `{}`{} | {} | {} | {}{} |\n", spelled(option.name, option.value),
                        option.effect == OptionEffect::identity ? " \\*" : "", default_cell(option),
                        command_names(option), cell(option.help), choices);
    }
    return text;
}

}  // namespace fedit
