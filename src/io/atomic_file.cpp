// io/atomic_file.cpp: temporary name, fsync, rename, fsync of the folder; the same for whole
// folders and for symlinks.
#include "fedit/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <system_error>

#include "io/file_descriptor.h"
#include "io/io_error.h"
#include "io/replace_folder.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view temporary_mark = ".fedit-tmp.";
constexpr int names_tried = 10'000;

fs::path folder_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// ".NAME.fedit-tmp.PID.N" beside `path`: on the same file system, hidden, and known as ours.
fs::path temporary_name(const fs::path& path, int attempt) {
    return folder_of(path) / ("." + path.filename().string() + std::string(temporary_mark) +
                              std::to_string(::getpid()) + "." + std::to_string(attempt));
}

/// Makes something under a temporary name that is not taken. `make` returns 0 or an errno.
template <class Make>
fs::path create_temporary(const fs::path& path, Make make) {
    for (int attempt = 0; attempt < names_tried; ++attempt) {
        fs::path name = temporary_name(path, attempt);
        const int failure = make(name);
        if (failure == 0) return name;
        if (failure != EEXIST) throw make_io_error(failure, "create the file", path);
    }
    throw make_io_error(EEXIST, "create a temporary file", path);
}

/// Removes what it was given when a write fails; never throws.
class RemoveUnlessKept {
public:
    explicit RemoveUnlessKept(std::optional<fs::path> path) : path_(std::move(path)) {}
    RemoveUnlessKept(const RemoveUnlessKept&) = delete;
    RemoveUnlessKept& operator=(const RemoveUnlessKept&) = delete;
    ~RemoveUnlessKept() {
        std::error_code ignored;
        if (path_) fs::remove_all(*path_, ignored);
    }
    void keep() noexcept { path_.reset(); }

private:
    std::optional<fs::path> path_;
};

void sync_folder(const fs::path& folder) {
    const FileDescriptor directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.is_open()) throw make_io_error(errno, "open the folder", folder);
    // Some network file systems cannot sync a folder and say so with EINVAL.
    if (::fsync(directory.get()) != 0 && errno != EINVAL) {
        throw make_io_error(errno, "sync the folder", folder);
    }
}

void create_synced_folders(const fs::path& folder) {
    std::error_code failed;
    if (fs::is_directory(folder, failed)) return;
    const fs::path parent = folder_of(folder);
    if (parent != folder) create_synced_folders(parent);
    fs::create_directory(folder, failed);  // no error if another rank was faster
    if (failed) throw make_io_error(failed.value(), "create the folder", folder);
    sync_folder(parent);
}

void write_bytes(const FileDescriptor& file, std::span<const std::byte> bytes,
                 const fs::path& path) {
    if (const int failure = write_all(file, bytes)) {
        throw make_io_error(failure, "write the file", path);
    }
}

void sync_and_close(FileDescriptor& file, const fs::path& path) {
    if (::fsync(file.get()) != 0) throw make_io_error(errno, "sync the file", path);
    if (const int failure = file.close()) throw make_io_error(failure, "close the file", path);
}

FileDescriptor create_file(const fs::path& path) {
    return FileDescriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
}

void rename_over(const fs::path& from, const fs::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        throw make_io_error(errno, "put the file in place", to);
    }
}

/// A member's name must not lead out of its folder.
void require_plain_name(const std::string& name, const fs::path& folder) {
    if (!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos) return;
    throw RunError({.what = "\"" + name + "\" is no name of a file in a folder",
                    .where = folder.string(),
                    .remedy = "this is a mistake in fedit: please report it"});
}

bool is_temporary(std::string_view name) {
    const std::size_t mark = name.rfind(temporary_mark);
    if (!name.starts_with('.') || mark == std::string_view::npos) return false;
    const std::string_view numbers = name.substr(mark + temporary_mark.size());
    return !numbers.empty() && numbers.find_first_not_of("0123456789.") == std::string_view::npos;
}

}  // namespace

std::string_view to_string(WritePoint point) {
    constexpr std::array<std::string_view, 6> names{"start",  "created", "written",
                                                    "synced", "renamed", "folder_synced"};
    return names.at(static_cast<std::size_t>(point));
}

void AtomicFile::reach(WritePoint point, const fs::path& path) const {
    if (hook_) hook_(point, path);
}

void AtomicFile::write(const fs::path& path, std::span<const std::byte> bytes) const {
    reach(WritePoint::start, path);
    create_synced_folders(folder_of(path));
    FileDescriptor file(-1);
    const fs::path temporary = create_temporary(path, [&](const fs::path& name) {
        file = create_file(name);
        return file.is_open() ? 0 : errno;
    });
    RemoveUnlessKept leftover(temporary);
    reach(WritePoint::created, path);
    write_bytes(file, bytes, path);
    reach(WritePoint::written, path);
    sync_and_close(file, path);
    reach(WritePoint::synced, path);
    rename_over(temporary, path);
    leftover.keep();
    reach(WritePoint::renamed, path);
    sync_folder(folder_of(path));
    reach(WritePoint::folder_synced, path);
}

void AtomicFile::write(const fs::path& path, std::string_view text) const {
    write(path, std::as_bytes(std::span(text)));
}

void AtomicFile::write_folder(const fs::path& folder, std::span<const Member> members) const {
    fill_folder(folder, [&](const auto& add) {
        for (const Member& member : members) add(member.name, member.bytes);
    });
}

void AtomicFile::write_folder(const fs::path& folder, std::span<const LazyMember> members) const {
    fill_folder(folder, [&](const auto& add) {
        for (const LazyMember& member : members) add(member.name, member.make());
    });
}

void AtomicFile::fill_folder(const fs::path& named,
                             const std::function<void(const AddMember&)>& fill) const {
    const fs::path folder = named.has_filename() ? named : named.parent_path();  // "a/b/" is "a/b"
    reach(WritePoint::start, folder);
    create_synced_folders(folder_of(folder));
    const fs::path temporary = create_temporary(
        folder, [](const fs::path& name) { return ::mkdir(name.c_str(), 0777) == 0 ? 0 : errno; });
    RemoveUnlessKept leftover(temporary);
    reach(WritePoint::created, folder);
    std::vector<std::pair<std::string, FileDescriptor>> files;
    fill([&](const std::string& name, std::span<const std::byte> bytes) {
        require_plain_name(name, folder);
        const FileDescriptor& file = files.emplace_back(name, create_file(temporary / name)).second;
        if (!file.is_open()) throw make_io_error(errno, "create the file", folder / name);
        write_bytes(file, bytes, folder / name);
    });
    reach(WritePoint::written, folder);
    for (auto& [name, file] : files) sync_and_close(file, folder / name);
    sync_folder(temporary);
    reach(WritePoint::synced, folder);
    const RemoveUnlessKept old_folder(replace_folder(temporary, folder));
    leftover.keep();
    reach(WritePoint::renamed, folder);
    sync_folder(folder_of(folder));
    reach(WritePoint::folder_synced, folder);
}

void AtomicFile::point(const fs::path& link, const fs::path& target) const {
    reach(WritePoint::start, link);
    create_synced_folders(folder_of(link));
    const fs::path temporary = create_temporary(link, [&](const fs::path& name) {
        return ::symlink(target.c_str(), name.c_str()) == 0 ? 0 : errno;
    });
    RemoveUnlessKept leftover(temporary);
    reach(WritePoint::created, link);
    rename_over(temporary, link);
    leftover.keep();
    reach(WritePoint::renamed, link);
    sync_folder(folder_of(link));
    reach(WritePoint::folder_synced, link);
}

void AtomicFile::remove_leftovers(const fs::path& folder) {
    std::error_code failed;
    std::vector<fs::path> temporaries;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, failed)) {
        const std::string name = entry.path().filename().string();
        if (const auto original = folder_of_aside(name)) {
            if (!fs::exists(folder / *original, failed)) {
                rename_over(entry.path(), folder / *original);
                sync_folder(folder);
            } else {
                temporaries.push_back(entry.path());
            }
        } else if (is_temporary(name)) {
            temporaries.push_back(entry.path());
        }
    }
    for (const fs::path& path : temporaries) {
        fs::remove_all(path, failed);
        if (failed) throw make_io_error(failed.value(), "remove a file left by a killed run", path);
    }
}

}  // namespace fedit
