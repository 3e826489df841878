// io/file_descriptor.cpp: open, size, write and close, each with its error.
#include "io/file_descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/io_error.h"

namespace fedit {

FileDescriptor::~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
}

int FileDescriptor::close() noexcept {
    const int fd = std::exchange(fd_, -1);
    // Linux has released the descriptor even when the call was interrupted.
    return ::close(fd) == 0 || errno == EINTR ? 0 : errno;
}

FileDescriptor open_for_reading(const std::filesystem::path& path) {
    // Without O_NONBLOCK, opening a pipe would wait for ever for its writer.
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.is_open()) throw_read_error(errno, path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw_read_error(errno, path);
    if (S_ISDIR(status.st_mode)) throw_read_error(EISDIR, path);
    if (!S_ISREG(status.st_mode)) {
        throw InputError({.what = "cannot read the file: it is not a regular file",
                          .where = path.string(),
                          .remedy = "copy its content to a file on disk and name that"});
    }
    return file;
}

std::size_t file_size(const FileDescriptor& file, const std::filesystem::path& path) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) throw_read_error(errno, path);
    return static_cast<std::size_t>(status.st_size);
}

int write_all(const FileDescriptor& file, std::span<const std::byte> bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        if (written == 0) return EIO;  // no progress and no reason: do not spin
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
}

}  // namespace fedit
