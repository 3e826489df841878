// core/error.h: the one form of an error message, and the exit code each kind of error ends with.
#pragma once

#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace fedit {

/// What the program ends with; the same on all ranks.
enum class ExitCode : int {
    done = 0,
    failure = 1,    ///< something broke at run time
    bad_input = 2,  ///< input or configuration the user can correct
    stopped = 75,   ///< checkpointed on request: run me again
};

/// One thing that is wrong: what it is, where it stands (file, line or field, value), what to do.
struct Fault {
    std::string what;
    std::string where;
    std::string remedy;
};

/// Base of all errors thrown by fedit. Caught once, in main.
class Error : public std::exception {
public:
    Error(ExitCode code, std::vector<Fault> faults);

    ExitCode exit_code() const noexcept { return code_; }
    const std::vector<Fault>& faults() const noexcept { return faults_; }
    /// All faults, each as the lines "what", "  where: ...", "  do:    ..." (a line
    /// whose text is empty is left out); no trailing newline.
    const char* what() const noexcept override { return message_.c_str(); }

private:
    ExitCode code_;
    std::vector<Fault> faults_;
    std::string message_;
};

/// The user's input or configuration is wrong; all faults of one input are told at once.
class InputError : public Error {
public:
    explicit InputError(Fault fault) : Error(ExitCode::bad_input, {std::move(fault)}) {}
    explicit InputError(std::vector<Fault> faults)
        : Error(ExitCode::bad_input, std::move(faults)) {}
};

/// Something broke while running: a full disk, a lost rank, a NaN loss.
class RunError : public Error {
public:
    explicit RunError(Fault fault) : Error(ExitCode::failure, {std::move(fault)}) {}
};

/// A system call on a file failed; `error_number` is its errno.
class IoError : public RunError {
public:
    IoError(int error_number, Fault fault) : RunError(std::move(fault)), errno_(error_number) {}
    int error_number() const noexcept { return errno_; }

private:
    int errno_;
};

/// Two operands of an operation do not fit: a mistake of ours, not of the user.
class ShapeError : public RunError {
public:
    using RunError::RunError;
};

}  // namespace fedit
