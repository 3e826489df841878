// tests/io/full_disk_test.cpp: limits that the system itself enforces: file size, a full file
// system, a folder that nobody may write.
#include <sys/mount.h>
#include <sys/resource.h>

#include <cerrno>

#include "fedit/io/atomic_file.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::entries_of;
using Entries = std::map<std::string, std::string>;

/// Lowers the limit on file sizes for its lifetime; a write beyond it fails instead of killing us.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit lower{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &lower);
    }
    ~FileSizeLimit() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }

private:
    rlimit before_{};
    void (*handler_)(int);
};

/// A small file system in memory; `mounted` is false where that is not allowed.
class SmallDisk {
public:
    explicit SmallDisk(fs::path at, const char* options) : at_(std::move(at)) {
        mounted_ = ::mount("tmpfs", at_.c_str(), "tmpfs", 0, options) == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
    }
    bool mounted() const { return mounted_; }
    bool make_read_only() const {
        return ::mount(nullptr, at_.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    }

private:
    fs::path at_;
    bool mounted_ = false;
};

TEST(FullDisk, AFileBeyondTheSizeLimitLeavesTheOldOne) {
    const fs::path folder = test::fresh_folder("limit");
    AtomicFile().write(folder / "f", std::string_view("old"));
    const std::string large(100'000, 'x');
    const std::string message = [&] {
        const FileSizeLimit limit(4096);
        return test::message_of<IoError>([&] { AtomicFile().write(folder / "f", large); });
    }();
    EXPECT_EQ(message,
              "cannot write the file: File too large\n  where: " + (folder / "f").string() +
                  "\n  do:    raise the limit on the size of a file (ulimit -f unlimited)");
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "old"}}));
}

TEST(FullDisk, AFullFileSystemLeavesTheOldFileAndSaysWhatIsFree) {
    const fs::path folder = test::fresh_folder("disk");
    const SmallDisk disk(folder, "size=256k");
    if (!disk.mounted()) GTEST_SKIP() << "a tmpfs cannot be mounted here";
    AtomicFile().write(folder / "f", std::string_view("old"));
    const std::string large(1'000'000, 'x');
    const std::string message =
        test::message_of<IoError>([&] { AtomicFile().write(folder / "f", large); });
    const std::string begin =
        "cannot write the file: No space left on device\n  where: " + (folder / "f").string() +
        "\n  do:    free space on the file system of " + folder.string() + " (";
    EXPECT_TRUE(message.starts_with(begin)) << message;
    EXPECT_TRUE(message.ends_with(" are free), or choose an output folder elsewhere")) << message;
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "old"}}));
}

TEST(FullDisk, AFullFileSystemLeavesTheOldFolder) {
    const fs::path folder = test::fresh_folder("disk_folder");
    const SmallDisk disk(folder, "size=256k");
    if (!disk.mounted()) GTEST_SKIP() << "a tmpfs cannot be mounted here";
    using Members = std::vector<AtomicFile::Member>;
    AtomicFile().write_folder(folder / "adapter", Members{{"a", test::to_bytes("old")}});
    const Members large{{"a", test::to_bytes("new")}, {"b", std::vector<std::byte>(1'000'000)}};
    EXPECT_THROW(AtomicFile().write_folder(folder / "adapter", large), IoError);
    EXPECT_EQ(entries_of(folder), (Entries{{"adapter", "folder"}}));
    EXPECT_EQ(entries_of(folder / "adapter"), (Entries{{"a", "old"}}));
}

TEST(FullDisk, AFileSystemWithoutInodesLeftIsTold) {
    const fs::path folder = test::fresh_folder("inodes");
    const SmallDisk disk(folder, "nr_inodes=2");  // its root, and one file
    if (!disk.mounted()) GTEST_SKIP() << "a tmpfs cannot be mounted here";
    std::ofstream(folder / "f") << "old";
    try {
        AtomicFile().write(folder / "f", std::string_view("new"));
        ADD_FAILURE() << "a file without an inode was written";
    } catch (const IoError& error) {
        EXPECT_EQ(error.error_number(), ENOSPC);
    }
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "old"}}));
}

TEST(ReadOnly, AReadOnlyFileSystemIsTold) {
    const fs::path folder = test::fresh_folder("read_only");
    const SmallDisk disk(folder, "size=256k");
    if (!disk.mounted()) GTEST_SKIP() << "a tmpfs cannot be mounted here";
    AtomicFile().write(folder / "f", std::string_view("old"));
    ASSERT_TRUE(disk.make_read_only());
    EXPECT_EQ(
        test::message_of<IoError>([&] { AtomicFile().write(folder / "f", std::string_view("x")); }),
        "cannot create the file: Read-only file system\n  where: " + (folder / "f").string() +
            "\n  do:    the file system is mounted read-only: choose another folder");
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "old"}}));
}

TEST(ReadOnly, AFolderWithoutPermissionIsTold) {
    if (::geteuid() == 0) GTEST_SKIP() << "permissions do not bind root";
    const fs::path folder = test::fresh_folder("no_permission");
    fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
    const std::string message =
        test::message_of<IoError>([&] { AtomicFile().write(folder / "f", std::string_view("x")); });
    fs::permissions(folder, fs::perms::owner_all);
    EXPECT_EQ(message, "cannot create the file: Permission denied\n  where: " +
                           (folder / "f").string() + "\n  do:    check the permissions of " +
                           folder.string() + " (ls -ld), or choose another folder");
}

}  // namespace
}  // namespace fedit
