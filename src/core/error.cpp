// core/error.cpp: the text of an error, made once when it is thrown.
#include "fedit/core/error.h"

#include <utility>

namespace fedit {
namespace {

constexpr std::size_t longest_part = 2000;  // bytes; what a foreign file holds may have no end

/// What a foreign file or name holds may command a terminal: control characters are written as
/// \xNN, and what is too long is cut.
void add_printable(std::string& text, const std::string& part) {
    constexpr char digits[] = "0123456789abcdef";
    for (const char c : part.substr(0, longest_part)) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte >= 0x20 && byte != 0x7f) || c == '\n' || c == '\t') {
            text += c;
        } else {
            text += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
        }
    }
    if (part.size() > longest_part) text += " ...";
}

std::string to_text(const std::vector<Fault>& faults) {
    std::string text;
    for (const Fault& fault : faults) {
        if (!text.empty()) text += '\n';
        add_printable(text, fault.what);
        if (!fault.where.empty()) add_printable(text += "\n  where: ", fault.where);
        if (!fault.remedy.empty()) add_printable(text += "\n  do:    ", fault.remedy);
    }
    return text;
}

}  // namespace

Error::Error(ExitCode code, std::vector<Fault> faults)
    : code_(code), faults_(std::move(faults)), message_(to_text(faults_)) {}

}  // namespace fedit
