// app/help.h: the texts of --help and docs/options.md, made from the tables of options and
// commands.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "fedit/experiment/config.h"

namespace fedit {

/// An option of the parser itself, which every command has and no Config holds.
struct GeneralOption {
    std::string_view name, value, help;
};
std::span<const GeneralOption> general_options();

std::string overview_help();                ///< fedit --help
std::string command_help(Command command);  ///< fedit COMMAND --help
std::string version_text();                 ///< fedit --version
std::string options_markdown();             ///< fedit options: docs/options.md

}  // namespace fedit
