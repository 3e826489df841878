// app/program.cpp: from the command line to the exit code.
#include "app/program.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/environment.h"
#include "app/options.h"
#include "fedit/comm/communicator.h"
#include "fedit/core/signal.h"

namespace fedit {
namespace {

int to_int(ExitCode code) {
    return static_cast<int>(code);
}

/// One write, so that the lines of several ranks do not mix.
void print_error(const std::string& text) {
    std::cerr << "fedit: error: " + text + '\n' << std::flush;
}

std::string unexpected(const std::exception& error) {
    return fmt::format("unexpected failure: {}", error.what());
}

Verbosity verbosity(const Config& config) {
    return config.verbosity == "quiet"     ? Verbosity::quiet
           : config.verbosity == "verbose" ? Verbosity::verbose
                                           : Verbosity::normal;
}

ProgressStyle progress_style(const Config& config) {
    if (config.progress == "none" || config.verbosity == "quiet") return ProgressStyle::none;
    const bool live =
        config.progress == "live" || (config.progress == "auto" && isatty(STDERR_FILENO) == 1);
    return live ? ProgressStyle::live_line : ProgressStyle::plain_lines;
}

ExitCode run_options(const Options& options, const std::vector<std::string>& arguments,
                     const Communicator& world, const Environment& environment,
                     const AtomicFile& files, const StopToken& stop) {
    const Context context{.comm = world,
                          .log = Log(std::cerr, world.rank(), verbosity(options.config)),
                          .progress = progress_style(options.config),
                          .stop = stop,
                          .files = files,
                          .arguments = arguments,
                          .environment = environment};
    return run_command(context, options.command, options.config);
}

/// `parsed`: the options of a process that is alone and has read them already.
int run_ranks(const Communicator& world, const std::vector<std::string>& arguments,
              const std::optional<Options>& parsed, const AtomicFile& files,
              const StopToken& stop) {
    const Environment environment = launch_environment();
    Options options;
    world.together("read the command line", [&] {
        options = parsed ? *parsed : parse_options(arguments);
        if (!options.text) check_launch(environment, world.size());
        if (options.text) print_result(world, *options.text);
    });
    if (options.text) return to_int(ExitCode::done);
    return to_int(run_options(options, arguments, world, environment, files, stop));
}

/// Ends the run with an error: orderly where this process is the whole run or all ranks end like
/// it, else by abort, since other ranks may wait for this one.
int end_with(const MpiSession& mpi, const Communicator* world, ExitCode code,
             const std::string& message) {
    if (world != nullptr && mpi.all_ranks_hold_the_error()) {
        if (world->rank() == 0) print_error(message);
        return to_int(code);
    }
    print_error(message);
    if (world == nullptr || world->size() > 1) mpi.abort(to_int(code));
    return to_int(code);
}

int run_session(const MpiSession& mpi, const std::vector<std::string>& arguments,
                const std::optional<Options>& parsed, const AtomicFile& files,
                const StopToken& stop) {
    std::optional<Communicator> world;
    try {
        world.emplace(Communicator::world(mpi));
        return run_ranks(*world, arguments, parsed, files, stop);
    } catch (const Error& error) {
        return end_with(mpi, world ? &*world : nullptr, error.exit_code(), error.what());
    } catch (const std::exception& error) {
        return end_with(mpi, world ? &*world : nullptr, ExitCode::failure, unexpected(error));
    }
}

}  // namespace

int run_program(int argc, char** argv, const AtomicFile& files) {
    const StopToken stop;
    // Only training polls the token; other commands end at once, as a signal's sender expects.
    // Before MPI starts, so that a request during the start is not this process's end.
    std::optional<StopSignals> signals;
    if (argc > 1 && std::string_view(argv[1]) == to_string(Command::train)) {
        signals.emplace(stop, std::initializer_list<int>{SIGUSR1, SIGTERM, SIGINT});
    }
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    try {
        // A text is for one reader, perhaps where MPI does not start, as on some login nodes.
        std::optional<Options> parsed;
        if (!is_launched(launch_environment())) parsed = parse_options(arguments);
        if (parsed && parsed->text) {
            print_text(*parsed->text);
            return to_int(ExitCode::done);
        }
        const MpiSession mpi(argc, argv);
        return run_session(mpi, arguments, parsed, files, stop);
    } catch (const Error& error) {  // before or without MPI
        print_error(error.what());
        return to_int(error.exit_code());
    } catch (const std::exception& error) {
        print_error(unexpected(error));
        return to_int(ExitCode::failure);
    }
}

}  // namespace fedit
