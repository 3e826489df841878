// comm/run_state.h: what the session and all its communicators know in common.
#pragma once

#include <chrono>
#include <string>

namespace fedit {

/// Who holds the error at hand, and so who is to print it.
enum class Failure {
    own,    ///< nobody else knows of it: this rank prints it
    agreed  ///< all ranks hold it, and root prints it
};

struct RunState {
    std::chrono::seconds hang_limit{0};
    std::string phase = "start";
    Failure failure = Failure::own;
    std::string shared_folder;  ///< where shared windows lie; empty until somebody asked
};

}  // namespace fedit
