// io/file_descriptor.h: owns one open file; nothing else calls close.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace fedit {

/// A move-only file descriptor.
class FileDescriptor {
public:
    explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
    FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~FileDescriptor();

    int get() const noexcept { return fd_; }
    bool is_open() const noexcept { return fd_ >= 0; }
    /// Returns the errno of a failed close, or 0. A writer must ask: a network file system may
    /// report a full disk only here.
    int close() noexcept;

private:
    int fd_;
};

/// Opens a regular file for reading. Throws InputError (not there, no permission, a folder) or
/// IoError.
FileDescriptor open_for_reading(const std::filesystem::path& path);

/// The size in bytes of an open file that `path` names in errors.
std::size_t file_size(const FileDescriptor& file, const std::filesystem::path& path);

/// Writes all bytes. Returns 0 or the errno.
int write_all(const FileDescriptor& file, std::span<const std::byte> bytes) noexcept;

}  // namespace fedit
