// io/io_error.cpp: causes of failed system calls and their remedies.
#include "io/io_error.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "fedit/core/progress.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

/// The nearest folder above `path` that exists.
fs::path existing_folder(const fs::path& path) {
    std::error_code ignored;
    fs::path folder = fs::absolute(path, ignored).parent_path();
    while (!fs::is_directory(folder, ignored) && folder.has_relative_path()) {
        folder = folder.parent_path();
    }
    return folder;
}

std::string space_remedy(const fs::path& path) {
    const fs::path folder = existing_folder(path);
    std::error_code failed;
    const fs::space_info space = fs::space(folder, failed);
    const std::string left =
        failed ? "" : fmt::format(" ({} are free)", format_bytes(std::int64_t(space.available)));
    return fmt::format(
        "free space on the file system of {}{}, or choose an output folder elsewhere",
        folder.string(), left);
}

std::string remedy_for(int error_number, const fs::path& path) {
    switch (error_number) {
        case ENOSPC:
            return space_remedy(path);
        case EDQUOT:
            return "your quota is used up: delete files or ask for more, or choose an output "
                   "folder "
                   "elsewhere";
        case EFBIG:
            return "raise the limit on the size of a file (ulimit -f unlimited)";
        case EACCES:
        case EPERM:
            return fmt::format("check the permissions of {} (ls -ld), or choose another folder",
                               existing_folder(path).string());
        case EROFS:
            return "the file system is mounted read-only: choose another folder";
        case ENOENT:
            return "check the spelling of the path";
        case ENOTDIR:
        case EEXIST:
            return "a part of this path is a file, not a folder: choose another path, or move that "
                   "file away";
        case EISDIR:
        case ENOTEMPTY:
            return "this path is a folder: choose another path, or move that folder away";
        case ENAMETOOLONG:
            return "choose a shorter name";
        case EMFILE:
        case ENFILE:
            return "raise the limit on open files (ulimit -n)";
        case EIO:
        case ESTALE:
            return "the storage reported an error: check the disk, or the mount of the network "
                   "file "
                   "system, then run again";
        default:
            return "check the path and the file system it lies on, then run again";
    }
}

Fault make_fault(int error_number, std::string_view action, const fs::path& path) {
    return {
        .what = fmt::format("cannot {}: {}", action, std::generic_category().message(error_number)),
        .where = path.string(),
        .remedy = remedy_for(error_number, path)};
}

}  // namespace

IoError make_io_error(int error_number, std::string_view action, const fs::path& path) {
    return {error_number, make_fault(error_number, action, path)};
}

void throw_read_error(int error_number, const fs::path& path) {
    switch (error_number) {
        case ENOENT:
        case ENOTDIR:
        case EISDIR:
        case EACCES:
        case EPERM:
        case ELOOP:
        case ENAMETOOLONG:
            throw InputError(make_fault(error_number, "read the file", path));
        default:
            throw make_io_error(error_number, "read the file", path);
    }
}

}  // namespace fedit
