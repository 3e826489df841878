// comm/mpi_check.cpp: errors of MPI calls.
#include "comm/mpi_check.h"

#include <fmt/format.h>
#include <mpi.h>

#include <array>
#include <exception>
#include <string>

#include "fedit/core/error.h"

namespace fedit {

void check_mpi(int result, std::string_view call) {
    if (result == MPI_SUCCESS) return;
    std::array<char, MPI_MAX_ERROR_STRING> reason{};
    int length = 0;
    MPI_Error_string(result, reason.data(), &length);
    throw RunError(
        {.what = fmt::format("{} failed: {}", call, reason.data()),
         .where = "communication between ranks",
         .remedy = "see what mpirun or srun said above; a rank or its node may be lost"});
}

bool may_release() noexcept {
    if (std::uncaught_exceptions() > 0) return false;
    int finalized = 0;
    return MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0;
}

}  // namespace fedit
