// comm/mpi_check.h: turns the return code of an MPI call into an error.
#pragma once

#include <string_view>

namespace fedit {

/// Throws RunError with the library's own reason if `result` is not MPI_SUCCESS.
void check_mpi(int result, std::string_view call);

/// False where a collective release would hang or is forbidden: while an exception unwinds, and
/// after MPI_Finalize.
bool may_release() noexcept;

}  // namespace fedit
