// comm/communicator_impl.h: one MPI communicator, and the way into its collectives.
#pragma once

#include <mpi.h>

#include <memory>

#include "comm/run_state.h"
#include "comm/watchdog.h"
#include "fedit/comm/communicator.h"

namespace fedit {

struct Communicator::Impl {
    /// Takes over `owned`, which is freed by the destructor.
    Impl(MPI_Comm owned, std::shared_ptr<RunState> run_state);
    ~Impl();
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    /// Returns when all ranks have come here; sleeps meanwhile. Every collective begins with it, so
    /// the MPI call behind it, which burns a core while it waits, has nobody to wait for.
    void enter();

    MPI_Comm comm;
    int rank;
    int size;
    std::shared_ptr<RunState> state;
    Watchdog watchdog;
};

}  // namespace fedit
