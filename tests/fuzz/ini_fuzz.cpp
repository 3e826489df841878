// tests/fuzz/ini_fuzz.cpp: an ini file of settings; what was read is written and reads back the
// same.
#include <array>

#include "fedit/experiment/config.h"
#include "tests/fuzz/input_file.h"

namespace {

void read(std::string_view text, fedit::Command command) {
    fedit::Config config;
    apply_ini(config, command, text, "config.ini");
    const std::string written = to_ini(config, command);
    fedit::Config again;
    apply_ini(again, command, written, "written.ini");
    fedit::fuzz::require(to_ini(again, command) == written, "settings read back the same");
    try {
        check_config(config, command);
    } catch (const fedit::InputError&) {  // of the command line too, which is no place in a file
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::array commands{fedit::Command::train, fedit::Command::evaluate,
                                  fedit::Command::generate};
    const fedit::Command command = commands[size % commands.size()];
    return fedit::fuzz::judge([&] { read(fedit::fuzz::text_of(data, size), command); });
}
