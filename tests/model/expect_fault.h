// tests/model/expect_fault.h: asserts that an input is refused with a message that names things.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fedit/core/error.h"

namespace fedit::test {

/// Runs `action`, which must throw InputError; its message must contain all `parts`. Gives the
/// number of faults told.
template <class Action>
std::size_t expect_refused(Action&& action, const std::vector<std::string>& parts) {
    try {
        action();
    } catch (const InputError& error) {
        const std::string message = error.what();
        for (const std::string& part : parts) {
            EXPECT_NE(message.find(part), std::string::npos)
                << "missing: " << part << "\nin: " << message;
        }
        for (const Fault& fault : error.faults()) EXPECT_FALSE(fault.remedy.empty()) << fault.what;
        return error.faults().size();
    }
    ADD_FAILURE() << "not refused; expected a message with: " << parts.front();
    return 0;
}

}  // namespace fedit::test
