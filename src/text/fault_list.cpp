// text/fault_list.cpp: collects what is wrong with one input, so that all of it is told at once.
#include "text/fault_list.h"

#include <fmt/format.h>

#include <utility>

namespace fedit {
namespace {
constexpr std::size_t max_named = 20;
}

void FaultList::add(Fault fault) {
    if (faults_.size() < max_named) {
        faults_.push_back(std::move(fault));
    } else {
        ++not_named_;
    }
}

void FaultList::add(const InputError& error) {
    for (const Fault& fault : error.faults()) add(fault);
}

void FaultList::throw_if_any(const std::string& input) const {
    if (faults_.empty()) return;
    std::vector<Fault> all = faults_;
    if (not_named_ > 0) {
        all.push_back({.what = fmt::format("and {} more faults", not_named_),
                       .where = input,
                       .remedy = "correct those named above first"});
    }
    throw InputError(std::move(all));
}

}  // namespace fedit
