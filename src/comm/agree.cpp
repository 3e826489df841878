// comm/agree.cpp: one rank's error becomes the error of all.
#include <filesystem>
#include <optional>
#include <system_error>

#include "comm/communicator_impl.h"
#include "comm/mpi_check.h"
#include "fedit/comm/communicator.h"
#include "fedit/core/error.h"

namespace fedit {
namespace {

struct Report {
    ExitCode code;
    std::vector<Fault> faults;
};

Report describe(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Error& known) {
        return {known.exit_code(), known.faults()};
    } catch (const std::exception& other) {
        return {ExitCode::failure, {{.what = other.what(), .where = {}, .remedy = {}}}};
    } catch (...) {
        return {ExitCode::failure,
                {{.what = "an exception of unknown type", .where = {}, .remedy = {}}}};
    }
}

Bytes pack(const Report& report) {
    ByteWriter message;
    message.put(report.code).put(static_cast<std::uint64_t>(report.faults.size()));
    for (const Fault& fault : report.faults) {
        message.put(fault.what).put(fault.where).put(fault.remedy);
    }
    return message.take();
}

Report unpack(std::span<const std::byte> bytes) {
    ByteReader message(bytes);
    Report report{message.get<ExitCode>(), {}};
    for (auto count = message.get<std::uint64_t>(); count > 0; --count) {
        Fault& fault = report.faults.emplace_back();
        fault.what = message.get_text();
        fault.where = message.get_text();
        fault.remedy = message.get_text();
    }
    return report;
}

[[noreturn]] void throw_as_error(Report report) {
    if (report.code == ExitCode::bad_input) throw InputError(std::move(report.faults));
    if (report.code == ExitCode::failure && report.faults.size() == 1) {
        throw RunError(std::move(report.faults.front()));
    }
    throw Error(report.code, std::move(report.faults));
}

/// What the standard library throws about a path, in our form: input of the user's if the path
/// itself cannot be, else a failure.
std::exception_ptr error_of(const std::filesystem::filesystem_error& failed) {
    const Fault fault{.what = "cannot look at the path: " + failed.code().message(),
                      .where = failed.path1().string(),
                      .remedy = "check the spelling of the path, and who may enter its folders"};
    for (const std::errc of_path : {std::errc::filename_too_long, std::errc::permission_denied,
                                    std::errc::too_many_symbolic_link_levels}) {
        if (failed.code() == of_path) return std::make_exception_ptr(InputError(fault));
    }
    return std::make_exception_ptr(IoError(failed.code().value(), fault));
}

/// The lowest rank that failed, or the number of ranks if none did.
int first_failing_rank(bool failed, MPI_Comm comm, int rank, int size) {
    int first = failed ? rank : size;
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
    return first;
}

}  // namespace

void Communicator::agree(std::exception_ptr mine) const {
    impl_->enter();
    const int first = first_failing_rank(mine != nullptr, impl_->comm, impl_->rank, impl_->size);
    if (first == impl_->size) return;
    std::optional<Report> own;
    if (mine) own = describe(mine);
    Bytes message;
    if (impl_->rank == first) message = pack(*own);
    broadcast(message, first);
    if (impl_->size == impl_->state->world_size) impl_->state->failure = Failure::of_all;
    Report told = unpack(message);
    if (own && own->code == told.code) std::rethrow_exception(mine);
    if (own) told.faults.insert(told.faults.end(), own->faults.begin(), own->faults.end());
    throw_as_error(std::move(told));
}

void Communicator::together(std::string_view phase_name, const std::function<void()>& work) const {
    phase(phase_name);
    std::exception_ptr error;
    try {
        work();
    } catch (const std::filesystem::filesystem_error& failed) {
        error = error_of(failed);
    } catch (...) {
        error = std::current_exception();
    }
    agree(error);
}

}  // namespace fedit
