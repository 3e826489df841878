// comm/mpi_session.cpp: start and end of MPI.
#include <fmt/format.h>
#include <mpi.h>

#include <array>
#include <cstdlib>

#include "comm/mpi_check.h"
#include "comm/run_state.h"
#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"

namespace fedit {

MpiSession::MpiSession(int& argc, char**& argv) : state_(std::make_shared<RunState>()) {
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler");
    if (provided < MPI_THREAD_FUNNELED) {
        throw RunError({.what = "the MPI library does not allow threads beside the one that "
                                "communicates (MPI_THREAD_FUNNELED)",
                        .where = library_version(),
                        .remedy = "use an MPI library that was built with threads"});
    }
}

MpiSession::~MpiSession() {
    // Nothing can be done about a failure here, and MPI has said so on standard error itself.
    if (may_release()) MPI_Finalize();
}

bool MpiSession::all_ranks_hold_the_error() const {
    return state_->failure == Failure::of_all;
}

void MpiSession::abort(int code) const {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::_Exit(code);  // MPI_Abort does not return, but is not declared so
}

std::string MpiSession::library_version() {
    std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
    int length = 0;
    check_mpi(MPI_Get_library_version(text.data(), &length), "MPI_Get_library_version");
    return {text.data()};
}

}  // namespace fedit
