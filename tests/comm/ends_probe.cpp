// tests/comm/ends_probe.cpp: a program that ends in one of several ways; ends_test.py runs it under
// mpirun and looks at what is left. Its main has the form of the real one.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"
#include "fedit/core/signal.h"

namespace {

using fedit::Communicator;
using fedit::ExitCode;
using std::chrono::milliseconds;

constexpr int odd_one = 1;  // the rank that does what the others do not
const fedit::Fault bad_alpha{.what = "alpha is -1", .where = "--alpha", .remedy = "use > 0"};

void say_pid() {
    std::cout << "pid " + std::to_string(getpid()) + "\n" << std::flush;
}

/// One rank throws, holding handles whose release is collective, while the others wait.
ExitCode lone_error(Communicator& comm) {
    const Communicator node = comm.node();
    const fedit::SharedMemory memory = node.share(1000);
    if (comm.rank() == odd_one) throw fedit::InputError(bad_alpha);
    comm.barrier();
    return ExitCode::done;
}

ExitCode agreed_error(Communicator& comm) {
    comm.together("check", [&] {
        if (comm.rank() == odd_one) throw fedit::InputError(bad_alpha);
    });
    return ExitCode::done;
}

/// An agreed error is dealt with; a later one is one rank's own.
ExitCode second_error(Communicator& comm) {
    try {
        agreed_error(comm);
    } catch (const fedit::InputError&) {
        comm.barrier();
    }
    return lone_error(comm);
}

/// One rank never comes; the others come one after the other.
ExitCode hang(Communicator& comm) {
    comm.set_hang_timeout(std::chrono::seconds(2));
    comm.phase("reduce");
    if (comm.rank() == odd_one) std::this_thread::sleep_for(std::chrono::seconds(600));
    std::this_thread::sleep_for(milliseconds(300) * comm.rank());
    comm.barrier();
    return ExitCode::done;
}

/// All ranks wait longer than the hang timeout, none is missing at the end.
ExitCode slow(Communicator& comm) {
    comm.set_hang_timeout(std::chrono::seconds(2));
    std::this_thread::sleep_for(milliseconds(1500) * (comm.rank() % 2));
    comm.barrier();
    std::this_thread::sleep_for(milliseconds(1500) * ((comm.rank() + 1) % 2));
    comm.barrier();
    return ExitCode::done;
}

ExitCode killed(Communicator& comm) {
    comm.barrier();
    if (comm.rank() == odd_one) raise(SIGKILL);
    comm.barrier();
    return ExitCode::done;
}

/// Works on its own until it is asked to stop, as ranks do between collectives.
ExitCode stopped(Communicator& comm) {
    const fedit::StopToken token;
    const fedit::StopSignals signals(token, {SIGUSR1, SIGTERM});
    comm.barrier();
    if (comm.rank() == 0) std::cout << "ready\n" << std::flush;
    while (!token.requested()) std::this_thread::sleep_for(milliseconds(10));
    return comm.sum(std::int64_t{1}) == comm.size() ? ExitCode::stopped : ExitCode::failure;
}

ExitCode share_too_much(Communicator& comm) {
    const fedit::SharedMemory memory = comm.share(std::size_t{1} << 50);
    return ExitCode::done;
}

const std::map<std::string, std::function<ExitCode(Communicator&)>> ends{
    {"lone_error", lone_error},
    {"agreed_error", agreed_error},
    {"second_error", second_error},
    {"hang", hang},
    {"slow", slow},
    {"killed", killed},
    {"stopped", stopped},
    {"share_too_much", share_too_much}};

/// Handles that live longer than MPI let go without calling it.
int outlive(int argc, char** argv) {
    std::optional<fedit::MpiSession> mpi(std::in_place, argc, argv);
    const Communicator comm = Communicator::world(*mpi);
    const fedit::SharedMemory memory = comm.share(1000);
    mpi.reset();
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string end = argc > 1 ? argv[1] : "";
    if (end == "outlive") return outlive(argc, argv);
    fedit::MpiSession mpi(argc, argv);
    say_pid();
    int rank = 0;
    try {
        Communicator comm = Communicator::world(mpi);
        rank = comm.rank();
        return static_cast<int>(ends.at(end)(comm));
    } catch (const fedit::Error& error) {
        const bool speaks = !mpi.all_ranks_hold_the_error() || rank == 0;
        if (speaks) std::cerr << std::string("fedit: error: ") + error.what() + "\n" << std::flush;
        if (mpi.all_ranks_hold_the_error()) return static_cast<int>(error.exit_code());
        mpi.abort(static_cast<int>(error.exit_code()));
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        mpi.abort(1);
    }
}
