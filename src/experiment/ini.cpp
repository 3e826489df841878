// experiment/ini.cpp: settings as "name = value" lines, out and in.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "experiment/trim.h"
#include "fedit/core/error.h"
#include "fedit/experiment/config.h"

namespace fedit {
namespace {

/// Characters that stand behind a backslash in quotes, and what they mean.
constexpr std::array<std::pair<char, char>, 5> escapes{
    {{'n', '\n'}, {'r', '\r'}, {'t', '\t'}, {'"', '"'}, {'\\', '\\'}}};

std::string ini_value(const Config& config, const Option& option) {
    const std::string value = option_value(config, option);
    const bool plain = trim(value) == value && !value.starts_with('"') &&
                       value.find_first_of("\n\r\t") == std::string::npos;
    if (plain) return value;
    std::string quoted = "\"";
    for (const char c : value) {
        const auto* escape = std::find_if(escapes.begin(), escapes.end(),
                                          [&](const auto& each) { return each.second == c; });
        if (escape != escapes.end()) quoted += '\\';
        quoted += escape != escapes.end() ? escape->first : c;
    }
    return quoted + '"';
}

/// The value that quotes enclose; nothing if they do not close, or close too early.
std::optional<std::string> unquote(std::string_view text) {
    if (!text.starts_with('"')) return std::string(text);
    std::string value;
    for (std::size_t i = 1; i < text.size(); ++i) {
        if (text[i] == '"') return i + 1 == text.size() ? std::optional(value) : std::nullopt;
        if (text[i] != '\\') {
            value += text[i];
            continue;
        }
        if (++i == text.size()) break;
        const auto* escape = std::find_if(escapes.begin(), escapes.end(),
                                          [&](const auto& each) { return each.first == text[i]; });
        if (escape == escapes.end()) return std::nullopt;
        value += escape->second;
    }
    return std::nullopt;
}

Fault unknown_name(std::string_view name, Command command, std::string where) {
    if (find_option(name) != nullptr) {
        return {
            .what = fmt::format("\"{}\" is not an option of fedit {}", name, to_string(command)),
            .where = std::move(where),
            .remedy = fmt::format("remove the line; fedit {} --help lists its options",
                                  to_string(command))};
    }
    return {.what = fmt::format("there is no option \"{}\"{}", name,
                                suggestion(name, option_names(command))),
            .where = std::move(where),
            .remedy = fmt::format("fedit {} --help lists all options", to_string(command))};
}

/// Reads the lines of one ini text into a Config.
class IniReader {
public:
    IniReader(Config& config, Command command, const std::string& source)
        : config_(config), command_(command), source_(source) {}

    void read(std::string_view text) {
        std::size_t line = 0;
        while (!text.empty()) {
            const std::size_t end = std::min(text.find('\n'), text.size());
            read_line(trim(text.substr(0, end)), ++line);
            text.remove_prefix(std::min(end + 1, text.size()));
        }
        if (!faults_.empty()) throw InputError(std::move(faults_));
    }

private:
    void read_line(std::string_view line, std::size_t number) {
        if (line.empty() || line.starts_with('#')) return;
        const std::string where = fmt::format("{}, line {}", source_, number);
        const std::size_t equals = line.find('=');
        const std::string_view name = trim(line.substr(0, equals));
        if (equals == std::string_view::npos || name.empty()) {
            faults_.push_back({.what = fmt::format("\"{}\" is not a setting", line),
                               .where = where,
                               .remedy = "write name = value, the name as on the command line "
                                         "without dashes; begin comments with #"});
            return;
        }
        const Option* option = find_option(name);
        if (option == nullptr || !belongs_to(*option, command_)) {
            faults_.push_back(unknown_name(name, command_, where));
        } else if (!seen_.insert(name).second) {
            faults_.push_back({.what = fmt::format("\"{}\" is set twice", name),
                               .where = where,
                               .remedy = "remove one of the two lines"});
        } else {
            set(*option, trim(line.substr(equals + 1)), where);
        }
    }

    void set(const Option& option, std::string_view text, const std::string& where) {
        const std::optional<std::string> value = unquote(text);
        if (!value) {
            faults_.push_back({.what = fmt::format("the quotes of {} do not match", text),
                               .where = where,
                               .remedy = "write \"value\", with \\\" for a quote inside and \\\\ "
                                         "for a backslash"});
            return;
        }
        try {
            set_option(config_, option, *value, where);
        } catch (const InputError& error) {
            faults_.insert(faults_.end(), error.faults().begin(), error.faults().end());
        }
    }

    Config& config_;
    Command command_;
    const std::string& source_;
    std::set<std::string_view> seen_;
    std::vector<Fault> faults_;
};

}  // namespace

std::string to_ini(const Config& config, Command command) {
    std::string text = fmt::format("# Settings of fedit {}; give them back with --config FILE.\n",
                                   to_string(command));
    std::optional<OptionGroup> group;
    for (const Option& option : option_table()) {
        if (!belongs_to(option, command)) continue;
        if (group != option.group) text += fmt::format("\n# ---- {}\n", title(option.group));
        group = option.group;
        const std::string value = ini_value(config, option);
        text += fmt::format("# {}\n{} ={}{}\n", option.help, option.name, value.empty() ? "" : " ",
                            value);
    }
    return text;
}

void apply_ini(Config& config, Command command, std::string_view text, const std::string& source) {
    IniReader(config, command, source).read(text);
}

}  // namespace fedit
