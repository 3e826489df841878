// model/faults.h: gathers all that is wrong with one input, so that the user hears it at once.
#pragma once

#include <utility>
#include <vector>

#include "fedit/core/error.h"

namespace fedit {

/// The faults found so far in one input.
class Faults {
public:
    void add(Fault fault) { faults_.push_back(std::move(fault)); }

    /// Runs `step`; what it throws as InputError joins the list.
    template <class Step>
    void check(Step&& step) {
        try {
            std::forward<Step>(step)();
        } catch (const InputError& error) {
            faults_.insert(faults_.end(), error.faults().begin(), error.faults().end());
        }
    }

    bool empty() const { return faults_.empty(); }
    /// Throws InputError with all faults, if there are any.
    void throw_if_any() {
        if (!faults_.empty()) throw InputError(std::move(faults_));
    }

private:
    std::vector<Fault> faults_;
};

}  // namespace fedit
