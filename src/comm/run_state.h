// comm/run_state.h: what the session and all its communicators know in common.
#pragma once

#include <chrono>
#include <string>

namespace fedit {

/// Who holds the error at hand.
enum class Failure {
    own,    ///< this rank, and others for all it knows do not
    of_all  ///< every rank of the run
};

struct RunState {
    std::chrono::seconds hang_limit{0};
    std::string phase = "start";
    Failure failure = Failure::own;
    int world_size = 1;
    std::string shared_folder;  ///< where shared windows lie; empty until somebody asked
};

}  // namespace fedit
