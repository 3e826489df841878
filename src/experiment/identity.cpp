// experiment/identity.cpp: collects, hashes and compares a run's identity.
#include "fedit/experiment/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "fedit/core/error.h"
#include "fedit/io/sha256.h"

namespace fedit {

void Identity::add_options(const Config& config) {
    for (const Option& option : option_table()) {
        const bool spans_run = option.name == "rounds" && config.lr_scope == "run";
        if (!belongs_to(option, Command::train)) continue;
        if (option.effect == OptionEffect::identity || spans_run) {
            add(std::string(option.name), option_value(config, option));
        }
    }
}

void Identity::add_device(const DeviceInfo& device) {
    add("device model", device.model);
    add("instruction set", device.instruction_set);
    add("libraries", device.libraries);
    add("arithmetic", std::to_string(arithmetic_version));
}

std::string Identity::text() const {
    std::string text;
    for (const auto& [name, value] : entries_) text += name + " = " + value + "\n";
    return text;
}

std::string Identity::hash() const {
    return to_hex(Sha256().add(text()).finish());
}

Identity Identity::parse(std::string_view text) {
    Identity identity;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (const std::size_t split = line.find(" = "); split != std::string_view::npos) {
            identity.add(std::string(line.substr(0, split)), std::string(line.substr(split + 3)));
        }
    }
    return identity;
}

void Identity::require_same(const Identity& other, const std::string& source) const {
    const std::map<std::string, std::string> mine(entries_.begin(), entries_.end());
    const std::map<std::string, std::string> theirs(other.entries_.begin(), other.entries_.end());
    std::vector<Fault> faults;
    const auto differ = [&](const std::string& name, const std::string& now,
                            const std::string& stored) {
        faults.push_back(
            {.what = fmt::format("{} is {} now, but the run was made with {}", name, now, stored),
             .where = source,
             .remedy = "run as before to go on with it, or give another --output"});
    };
    for (const auto& [name, value] : mine) {
        const auto found = theirs.find(name);
        if (found == theirs.end()) {
            differ(name, value, "(nothing)");
        } else if (found->second != value) {
            differ(name, value, found->second);
        }
    }
    for (const auto& [name, value] : theirs) {
        if (!mine.contains(name)) differ(name, "(nothing)", value);
    }
    if (!faults.empty()) throw InputError(std::move(faults));
}

}  // namespace fedit
