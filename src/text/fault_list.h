// text/fault_list.h: collects what is wrong with one input, so that all of it is told at once.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fedit/core/error.h"

namespace fedit {

/// Keeps the first 20 faults and counts the others.
class FaultList {
public:
    void add(Fault fault);
    void add(const InputError& error);
    bool empty() const { return faults_.empty(); }
    /// Throws InputError if there is a fault; `input` names the whole input, for the count.
    void throw_if_any(const std::string& input) const;

private:
    std::vector<Fault> faults_;
    std::size_t not_named_ = 0;
};

}  // namespace fedit
