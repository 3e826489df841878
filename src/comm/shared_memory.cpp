// comm/shared_memory.cpp: an MPI shared window, or plain memory where a rank is alone.
#include "fedit/comm/shared_memory.h"

#include <fmt/format.h>
#include <mpi.h>
#include <sys/statvfs.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>

#include "comm/communicator_impl.h"
#include "comm/mpi_check.h"
#include "fedit/core/aligned_memory.h"
#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::size_t smallest_page = 4096;
constexpr std::size_t window_overhead = std::size_t{1} << 20;  // what MPI keeps beside the bytes

/// Ends a use of MPI's tool interface when it goes out of scope.
struct ToolInterface {
    ToolInterface() {
        int provided = 0;
        check_mpi(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided), "MPI_T_init_thread");
    }
    ~ToolInterface() { MPI_T_finalize(); }
    ToolInterface(const ToolInterface&) = delete;
    ToolInterface& operator=(const ToolInterface&) = delete;
};

/// The folder that Open MPI puts shared windows in; another MPI library says none.
std::string backing_folder() {
    const ToolInterface tools;
    int index = 0;
    MPI_T_cvar_handle handle = MPI_T_CVAR_HANDLE_NULL;
    int length = 0;
    if (MPI_T_cvar_get_index("osc_sm_backing_directory", &index) != MPI_SUCCESS) return "/dev/shm";
    check_mpi(MPI_T_cvar_handle_alloc(index, nullptr, &handle, &length), "MPI_T_cvar_handle_alloc");
    std::string folder(static_cast<std::size_t>(length) + 1, '\0');
    const int result = MPI_T_cvar_read(handle, folder.data());
    MPI_T_cvar_handle_free(&handle);
    check_mpi(result, "MPI_T_cvar_read");
    folder.resize(folder.find('\0'));
    return folder.empty() ? "/dev/shm" : folder;
}

double mebibytes(std::uint64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}

void require_space(std::size_t bytes, const std::string& folder) {
    struct statvfs space {};
    if (statvfs(folder.c_str(), &space) != 0) {
        throw IoError(errno,
                      {.what = "cannot ask for the free space of the folder of shared memory",
                       .where = folder,
                       .remedy = "mount a tmpfs there"});
    }
    const std::uint64_t free = std::uint64_t{space.f_bavail} * space.f_frsize;
    if (bytes <= free && free - bytes >= window_overhead) return;
    throw IoError(
        ENOSPC, {.what = fmt::format("{:.1f} MiB of memory shared by the ranks of this node do not "
                                     "fit: {:.1f} MiB are free",
                                     mebibytes(bytes), mebibytes(free)),
                 .where = folder,
                 .remedy = "enlarge that tmpfs, remove stale files from it, or give Open MPI "
                           "another folder: mpirun --mca osc_sm_backing_directory DIR"});
}

}  // namespace

struct SharedMemory::Impl {
    Impl(std::shared_ptr<Communicator::Impl> owner, std::size_t bytes);
    ~Impl();
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    void allocate_window(std::size_t bytes);

    std::shared_ptr<Communicator::Impl> ranks;
    AlignedMemory alone;  // a rank alone needs no window
    MPI_Win window = MPI_WIN_NULL;
    std::span<std::byte> memory;
};

SharedMemory::Impl::Impl(std::shared_ptr<Communicator::Impl> owner, std::size_t bytes)
    : ranks(std::move(owner)) {
    if (ranks->size > 1) {
        allocate_window(bytes);
        return;
    }
    alone = allocate_aligned(bytes);
    memory = {alone.get(), bytes};
}

void SharedMemory::Impl::allocate_window(std::size_t bytes) {
    const std::size_t padded = bytes + memory_alignment;
    std::byte* mine = nullptr;
    check_mpi(MPI_Win_allocate_shared(ranks->rank == 0 ? static_cast<MPI_Aint>(padded) : 0, 1,
                                      MPI_INFO_NULL, ranks->comm, &mine, &window),
              "MPI_Win_allocate_shared");
    check_mpi(MPI_Win_set_errhandler(window, MPI_ERRORS_RETURN), "MPI_Win_set_errhandler");
    MPI_Aint size = 0;
    int unit = 0;
    void* start = nullptr;
    check_mpi(MPI_Win_shared_query(window, 0, &size, &unit, &start), "MPI_Win_shared_query");
    std::size_t room = padded;  // pages are mapped alike, so all ranks align to the same byte
    std::align(memory_alignment, bytes, start, room);
    memory = {static_cast<std::byte*>(start), bytes};
    check_mpi(MPI_Win_lock_all(MPI_MODE_NOCHECK, window), "MPI_Win_lock_all");
    if (ranks->rank != 0) return;
    // Pages of a tmpfs are taken when first written. Taking them now lets the next check of free
    // space see them.
    for (std::size_t at = 0; at < bytes; at += smallest_page) memory[at] = std::byte{0};
}

SharedMemory::Impl::~Impl() {
    if (window == MPI_WIN_NULL || !may_release()) return;
    MPI_Win_unlock_all(window);
    MPI_Win_free(&window);
}

SharedMemory::SharedMemory(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SharedMemory::~SharedMemory() = default;
SharedMemory::SharedMemory(SharedMemory&&) noexcept = default;
SharedMemory& SharedMemory::operator=(SharedMemory&&) noexcept = default;

std::span<std::byte> SharedMemory::bytes() const {
    return impl_->memory;
}
bool SharedMemory::leader() const {
    return impl_->ranks->rank == 0;
}

void SharedMemory::seal() {
    if (impl_->window == MPI_WIN_NULL) return;
    // The separate steps of a shared window: make my writes public, meet, see those of others.
    check_mpi(MPI_Win_sync(impl_->window), "MPI_Win_sync");
    impl_->ranks->enter();
    check_mpi(MPI_Win_sync(impl_->window), "MPI_Win_sync");
}

SharedMemory Communicator::share(std::size_t bytes) const {
    std::exception_ptr error;
    if (impl_->size > 1 && impl_->rank == 0) {
        try {
            std::string& folder = impl_->state->shared_folder;
            if (folder.empty()) folder = backing_folder();  // takes a fifth of a second
            require_space(bytes, folder);
        } catch (const RunError&) {
            error = std::current_exception();
        }
    }
    agree(error);
    impl_->enter();
    return SharedMemory(std::make_unique<SharedMemory::Impl>(impl_, bytes));
}

}  // namespace fedit
