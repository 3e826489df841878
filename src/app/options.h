// app/options.h: the command line: which command, with which settings.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "fedit/experiment/config.h"

namespace fedit {

/// What was asked for: a text to print (--help, --version, --dump-config), or a command to run.
struct Options {
    std::optional<std::string> text;
    Command command{};
    Config config;
};

/// `arguments` without the program's name. Precedence: command line, --config FILE, default. Throws
/// InputError, all faults at once, for unknown, abbreviated or repeated options, stray words, bad
/// values and combinations.
Options parse_options(std::span<const std::string> arguments);

}  // namespace fedit
