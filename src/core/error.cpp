// core/error.cpp: the text of an error, made once when it is thrown.
#include "fedit/core/error.h"

#include <utility>

namespace fedit {
namespace {

std::string to_text(const std::vector<Fault>& faults) {
    std::string text;
    for (const Fault& fault : faults) {
        if (!text.empty()) text += '\n';
        text += fault.what;
        if (!fault.where.empty()) text += "\n  where: " + fault.where;
        if (!fault.remedy.empty()) text += "\n  do:    " + fault.remedy;
    }
    return text;
}

}  // namespace

Error::Error(ExitCode code, std::vector<Fault> faults)
    : code_(code), faults_(std::move(faults)), message_(to_text(faults_)) {}

}  // namespace fedit
