// app/program.h: the whole program but main, so that tests can run it with a file writer that
// fails.
#pragma once

#include "fedit/io/atomic_file.h"

namespace fedit {

/// What main does: starts MPI, reads the command line, runs the command, prints an error once.
/// Returns the exit code, or ends all ranks with it if this rank failed alone.
int run_program(int argc, char** argv, const AtomicFile& files);

}  // namespace fedit
