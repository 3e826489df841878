// io/replace_folder.cpp: exchange of two folders, by renameat2 or by two renames.
#include "io/replace_folder.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "io/io_error.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view aside_mark = ".fedit-old";

/// An exchange would silently replace a file or a symlink too.
void refuse_what_is_no_folder(const fs::path& path) {
    std::error_code ignored;
    const fs::file_status status = fs::symlink_status(path, ignored);
    if (fs::exists(status) && !fs::is_directory(status)) {
        throw make_io_error(ENOTDIR, "replace the folder", path);
    }
}

}  // namespace

std::optional<fs::path> replace_folder(const fs::path& fresh, const fs::path& folder) {
    refuse_what_is_no_folder(folder);
    if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
        return fresh;
    }
    const bool cannot_exchange = errno == EINVAL || errno == ENOSYS;
    std::error_code ignored;
    if (cannot_exchange && fs::exists(folder, ignored))
        return replace_by_two_renames(fresh, folder);
    if (!cannot_exchange && errno != ENOENT)
        throw make_io_error(errno, "replace the folder", folder);
    if (::rename(fresh.c_str(), folder.c_str()) != 0) {
        throw make_io_error(errno, "put the folder in place", folder);
    }
    return std::nullopt;
}

fs::path replace_by_two_renames(const fs::path& fresh, const fs::path& folder) {
    const fs::path aside =
        folder.parent_path() / ("." + folder.filename().string() + std::string(aside_mark));
    std::error_code failed;
    fs::remove_all(aside, failed);
    if (::rename(folder.c_str(), aside.c_str()) != 0) {
        throw make_io_error(errno, "move the old folder aside", folder);
    }
    if (::rename(fresh.c_str(), folder.c_str()) != 0) {
        const int reason = errno;
        fs::rename(aside, folder, failed);
        throw make_io_error(reason, "put the folder in place", folder);
    }
    return aside;
}

std::optional<std::string> folder_of_aside(std::string_view name) {
    if (!name.starts_with('.') || !name.ends_with(aside_mark)) return std::nullopt;
    const std::size_t length = name.size() - aside_mark.size();
    return length > 1 ? std::optional(std::string(name.substr(1, length - 1))) : std::nullopt;
}

}  // namespace fedit
