// io/atomic_file.h: the only way this program writes a durable file: temporary name, fsync, rename,
// fsync of the folder. A reader sees the old file or the new one, never a part.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

/// The named points of one atomic write, in order. Tests kill the process, drop what was not
/// synced, or throw IoError(ENOSPC) there.
enum class WritePoint : int { start, created, written, synced, renamed, folder_synced };

std::string_view to_string(WritePoint point);

/// Called as each point is reached, with the final path; the temporary lies beside it. The default
/// does nothing.
using WriteHook = std::function<void(WritePoint, const std::filesystem::path&)>;

/// Writes files atomically. Cheap to copy.
class AtomicFile {
public:
    explicit AtomicFile(WriteHook hook = {}) : hook_(std::move(hook)) {}

    /// Writes `bytes` to `path`; parent folders are created (and synced). On failure the temporary
    /// file is removed, `path` is as it was, and IoError names the file, the cause and the remedy.
    /// Only a failure after the rename (the folder cannot be synced) leaves the new file, whole.
    void write(const std::filesystem::path& path, std::span<const std::byte> bytes) const;
    void write(const std::filesystem::path& path, std::string_view text) const;

    /// Writes all files into a temporary folder beside `folder`, syncs, and renames it into place.
    /// An existing `folder` is exchanged with it in one step, then removed; where the file system
    /// cannot exchange, it is moved aside first, and `remove_leftovers` puts it back after a kill.
    /// A member's name has no folder. Errors as for `write`.
    struct Member {
        std::string name;
        std::vector<std::byte> bytes;
    };
    void write_folder(const std::filesystem::path& folder, std::span<const Member> members) const;
    /// The same for files too large to be in memory together: each is made, written and forgotten
    /// in turn. What `make` throws leaves `folder` as it was.
    struct LazyMember {
        std::string name;
        std::function<std::vector<std::byte>()> make;
    };
    void write_folder(const std::filesystem::path& folder,
                      std::span<const LazyMember> members) const;

    /// Points the symlink `link` to `target` (relative), by rename.
    void point(const std::filesystem::path& link, const std::filesystem::path& target) const;

    /// Removes what a killed writer left in `folder` (names of our temporary form only), or puts an
    /// old folder back whose new one never arrived. Call it only where no other writer can be.
    static void remove_leftovers(const std::filesystem::path& folder);

private:
    using AddMember = std::function<void(const std::string&, std::span<const std::byte>)>;
    /// The way of write_folder; `fill` calls what it is given for each file.
    void fill_folder(const std::filesystem::path& folder,
                     const std::function<void(const AddMember&)>& fill) const;
    void reach(WritePoint point, const std::filesystem::path& path) const;
    WriteHook hook_;
};

/// Reads a whole file. InputError if it is absent, unreadable, no regular file, or above `limit`
/// bytes; IoError if reading fails. Both name the file.
std::vector<std::byte> read_file(const std::filesystem::path& path,
                                 std::size_t limit = std::size_t{1} << 40);
std::string read_text_file(const std::filesystem::path& path);

}  // namespace fedit
