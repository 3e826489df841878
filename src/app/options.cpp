// app/options.cpp: Boost.Program_options, fed from the option table, cuts the command line into
// names and values; what they mean is the table's affair.
#include "app/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <set>
#include <vector>

#include "app/commands.h"
#include "app/help.h"
#include "fedit/core/error.h"
#include "fedit/core/similar.h"
#include "fedit/io/atomic_file.h"

namespace fedit {
namespace {

namespace po = boost::program_options;

constexpr std::string_view here = "command line";

po::options_description description(Command command) {
    po::options_description all;
    const auto add = [&](std::string_view name, bool takes_value) {
        auto* value = po::value<std::string>();
        if (!takes_value) value->implicit_value("true");
        all.add_options()(std::string(name).c_str(), value, "");
    };
    for (const GeneralOption& option : general_options()) add(option.name, !option.value.empty());
    for (const Option& option : option_table()) {
        if (!belongs_to(option, command)) continue;
        add(option.name, !std::holds_alternative<bool Config::*>(option.field));
    }
    return all;
}

/// One option or stray word as it stood on the command line.
using Word = po::basic_option<char>;

std::vector<Word> cut(std::span<const std::string> arguments, Command command) {
    using namespace po::command_line_style;
    const po::options_description known = description(command);
    try {
        return po::command_line_parser(std::vector(arguments.begin(), arguments.end()))
            .options(known)
            .style(allow_long | long_allow_adjacent | long_allow_next)
            .allow_unregistered()
            .run()
            .options;
    } catch (const po::error& error) {
        throw InputError({.what = error.what(),
                          .where = std::string(here),
                          .remedy = fmt::format("fedit {} --help shows which options take a value",
                                                to_string(command))});
    }
}

/// Reads the words of one command line into settings.
class CommandLine {
public:
    CommandLine(std::span<const std::string> arguments, Command command)
        : command_(command), words_(cut(arguments, command)) {
        for (const Word& word : words_) look_at(word);
    }

    bool has(std::string_view name) const { return seen_.count(name) > 0; }

    /// File first, then the command line; all faults of both at once. A size of micro-batches that
    /// neither gives follows the batch size, here, so that a run stores what it trains with.
    Config settings() {
        Config config;
        config.micro_batch_size = 0;  // no value that can be given
        read_file_named(config);
        for (const Word& word : words_) {
            const Option* option = find_option(word.string_key);
            if (word.unregistered || option == nullptr) continue;
            collect([&] {
                set_option(config, *option, word.value.empty() ? "true" : word.value.front(),
                           fmt::format("{}, --{}", here, option->name));
            });
        }
        if (!faults_.empty()) throw InputError(std::move(faults_));
        if (config.micro_batch_size == 0) {
            config.micro_batch_size = std::min(Config{}.micro_batch_size, config.batch_size);
        }
        return config;
    }

private:
    template <class Work>
    void collect(const Work& work) {
        try {
            work();
        } catch (const InputError& error) {
            faults_.insert(faults_.end(), error.faults().begin(), error.faults().end());
        }
    }

    void add_fault(std::string what, std::string remedy) {
        faults_.push_back({std::move(what), std::string(here), std::move(remedy)});
    }

    void look_at(const Word& word) {
        const bool after_unknown = std::exchange(last_was_unknown_, word.unregistered);
        if (word.unregistered) {
            unknown(word.string_key);
        } else if (!word.string_key.empty()) {
            if (!seen_.insert(word.string_key).second) {
                add_fault(fmt::format("--{} is given twice", word.string_key), "give it once");
            }
            const bool is_switch = word.string_key != "config" && !find_option(word.string_key);
            if (is_switch && !word.value.empty()) stray(word.value.front());
        } else if (!after_unknown) {  // else it is most likely the unknown option's value
            stray(word.value.front());
        }
    }

    void unknown(const std::string& name) {
        const std::string help = fmt::format(
            "fedit {} --help lists its options; names are written "
            "in full",
            to_string(command_));
        if (find_option(name) != nullptr) {
            add_fault(fmt::format("--{} is not an option of fedit {}", name, to_string(command_)),
                      help);
        } else {
            add_fault(fmt::format("there is no option --{}{}", name,
                                  suggestion(name, option_names(command_), "--")),
                      help);
        }
    }

    void stray(const std::string& text) {
        add_fault(fmt::format("\"{}\" is neither an option nor the value of one{}", text,
                              suggestion(text, option_names(command_), "--")),
                  "option names begin with --, and a value with spaces needs quotes");
    }

    void read_file_named(Config& config) {
        for (const Word& word : words_) {
            if (word.string_key != "config" || word.unregistered) continue;
            const std::string& path = word.value.front();
            std::string text;
            try {
                text = read_text_file(path);
            } catch (const Error& error) {
                faults_.insert(faults_.end(), error.faults().begin(), error.faults().end());
                continue;
            }
            collect([&] { apply_ini(config, command_, text, path); });
        }
    }

    Command command_;
    std::vector<Word> words_;
    std::set<std::string, std::less<>> seen_;
    std::vector<Fault> faults_;
    bool last_was_unknown_ = false;
};

Command find_command(const std::string& name) {
    std::vector<std::string> names;
    for (const CommandInfo& info : command_table()) {
        if (to_string(info.command) == name) return info.command;
        names.emplace_back(to_string(info.command));
    }
    throw InputError({.what = name.starts_with('-')
                                  ? fmt::format("the first word must be a command, not {}", name)
                                  : fmt::format("there is no command \"{}\"{}", name,
                                                suggestion(name, names, "fedit ")),
                      .where = std::string(here),
                      .remedy = fmt::format("the commands are {}; fedit --help says what they do",
                                            join(names))});
}

/// A path that stands alone behind `inspect` is the value of --path.
std::vector<std::string> name_positional(std::span<const std::string> arguments, Command command) {
    std::vector<std::string> words(arguments.begin(), arguments.end());
    if (command == Command::inspect && !words.empty() && !words.front().starts_with("--")) {
        words.insert(words.begin(), "--path");
    }
    return words;
}

/// What to print for a first word that is no command, if anything.
std::optional<std::string> general_text(std::span<const std::string> arguments) {
    if (arguments.empty()) return overview_help();
    const std::string& first = arguments.front();
    if (first == "--help" || first == "-h" || first == "help") return overview_help();
    if (first == "--version") return version_text();
    if (first == "options" && arguments.size() == 1) return options_markdown();
    return std::nullopt;
}

}  // namespace

Options parse_options(std::span<const std::string> arguments) {
    Options options;
    options.text = general_text(arguments);
    if (options.text) return options;
    options.command = find_command(arguments.front());
    arguments = arguments.subspan(1);

    CommandLine line(name_positional(arguments, options.command), options.command);
    if (line.has("help")) {
        options.text = command_help(options.command);
    } else if (line.has("version")) {
        options.text = version_text();
    } else {
        options.config = line.settings();
        if (line.has("dump-config")) {
            options.text = to_ini(options.config, options.command);
        } else {
            check_config(options.config, options.command);
        }
    }
    return options;
}

}  // namespace fedit
