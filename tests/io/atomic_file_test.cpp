// tests/io/atomic_file_test.cpp: one file or symlink, killed and failing at every named point.
#include "fedit/io/atomic_file.h"

#include <sys/stat.h>

#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::entries_of;
using Entries = std::map<std::string, std::string>;

TEST(AtomicFile, WritesAndReplacesAndLeavesNothingElse) {
    const fs::path folder = test::fresh_folder("replace");
    AtomicFile().write(folder / "run.h5", std::string_view("old"));
    AtomicFile().write(folder / "run.h5", std::string_view("new"));
    AtomicFile().write(folder / "empty", std::string_view());
    EXPECT_EQ(entries_of(folder), (Entries{{"run.h5", "new"}, {"empty", ""}}));
}

TEST(AtomicFile, CreatesParentFolders) {
    const fs::path folder = test::fresh_folder("parents");
    AtomicFile().write(folder / "state/clients/000017/round.h5", std::string_view("x"));
    EXPECT_EQ(test::content_of(folder / "state/clients/000017/round.h5"), "x");
}

TEST(AtomicFile, WritesARelativePathWithoutFolder) {
    AtomicFile().write("relative.txt", std::string_view("x"));
    EXPECT_EQ(test::content_of("relative.txt"), "x");
}

TEST(AtomicFile, HonoursTheUmask) {
    const fs::path folder = test::fresh_folder("umask");
    const mode_t before = ::umask(027);
    AtomicFile().write(folder / "f", std::string_view("x"));
    ::umask(before);
    struct stat status {};
    ASSERT_EQ(::stat((folder / "f").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0640U);
}

TEST(AtomicFile, ReachesItsPointsInOrderWithTheFinalPath) {
    const fs::path file = test::fresh_folder("points") / "f";
    std::vector<WritePoint> reached;
    const AtomicFile atomic([&](WritePoint point, const fs::path& path) {
        EXPECT_EQ(path, file);
        reached.push_back(point);
    });
    atomic.write(file, std::string_view("x"));
    EXPECT_EQ(reached,
              std::vector<WritePoint>(std::begin(test::all_points), std::end(test::all_points)));
}

TEST(WritePoint, HasAName) {
    EXPECT_EQ(to_string(WritePoint::start), "start");
    EXPECT_EQ(to_string(WritePoint::folder_synced), "folder_synced");
}

class AtomicFileAt : public testing::TestWithParam<WritePoint> {};

TEST_P(AtomicFileAt, KilledLeavesTheOldBytesOrTheNew) {
    const fs::path folder = test::fresh_folder("kill");
    const fs::path file = folder / "f";
    AtomicFile().write(file, std::string_view("old"));

    ASSERT_TRUE(test::is_killed_in([&] {
        AtomicFile(test::kill_at(GetParam())).write(file, std::string_view("new, longer"));
    }));

    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(test::content_of(file), arrived ? "new, longer" : "old");
    AtomicFile::remove_leftovers(folder);
    EXPECT_EQ(entries_of(folder).size(), 1U);
}

TEST_P(AtomicFileAt, KilledOnTheFirstWriteLeavesNoFileOrAWholeOne) {
    const fs::path folder = test::fresh_folder("kill_first");
    ASSERT_TRUE(test::is_killed_in([&] {
        AtomicFile(test::kill_at(GetParam())).write(folder / "f", std::string_view("new"));
    }));
    AtomicFile::remove_leftovers(folder);
    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(entries_of(folder), arrived ? (Entries{{"f", "new"}}) : Entries{});
}

TEST_P(AtomicFileAt, AFullDiskLeavesTheOldFileAndNothingElse) {
    const fs::path folder = test::fresh_folder("full");
    const fs::path file = folder / "f";
    AtomicFile().write(file, std::string_view("old"));
    EXPECT_THROW(AtomicFile(test::fill_disk_at(GetParam())).write(file, std::string_view("new")),
                 IoError);
    // After the rename there is no way back, and none is needed: the new file is whole.
    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(entries_of(folder), (Entries{{"f", arrived ? "new" : "old"}}));
}

INSTANTIATE_TEST_SUITE_P(Points, AtomicFileAt, testing::ValuesIn(test::all_points),
                         [](const auto& at) { return std::string(to_string(at.param)); });

class AtomicLinkAt : public testing::TestWithParam<WritePoint> {};

TEST_P(AtomicLinkAt, KilledPointsTheLinkToTheOldTargetOrTheNew) {
    const fs::path folder = test::fresh_folder("kill_link");
    AtomicFile().point(folder / "adapter", "adapters/round_1");
    ASSERT_TRUE(test::is_killed_in([&] {
        AtomicFile(test::kill_at(GetParam())).point(folder / "adapter", "adapters/round_2");
    }));
    AtomicFile::remove_leftovers(folder);
    const bool arrived = GetParam() >= WritePoint::renamed;
    const std::string target = arrived ? "-> adapters/round_2" : "-> adapters/round_1";
    EXPECT_EQ(entries_of(folder), (Entries{{"adapter", target}}));
}

INSTANTIATE_TEST_SUITE_P(Points, AtomicLinkAt,
                         testing::Values(WritePoint::start, WritePoint::created,
                                         WritePoint::renamed, WritePoint::folder_synced),
                         [](const auto& at) { return std::string(to_string(at.param)); });

TEST(AtomicFile, BytesThatWereNeverSyncedAreNeverSeen) {
    // A power cut after `written` may lose any part of the temporary: cut it off and stop there.
    const fs::path folder = test::fresh_folder("dropped");
    AtomicFile().write(folder / "f", std::string_view("old"));
    const WriteHook lose_power = [&](WritePoint point, const fs::path&) {
        if (point != WritePoint::written) return;
        for (const auto& entry : fs::directory_iterator(folder)) {
            if (entry.path().filename() != "f") fs::resize_file(entry.path(), 1);
        }
        ::kill(::getpid(), SIGKILL);
    };
    ASSERT_TRUE(test::is_killed_in(
        [&] { AtomicFile(lose_power).write(folder / "f", std::string_view("new")); }));
    EXPECT_EQ(test::content_of(folder / "f"), "old");
    EXPECT_EQ(entries_of(folder).size(), 2U) << "the torn temporary was to be there";
    AtomicFile::remove_leftovers(folder);
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "old"}}));
}

TEST(AtomicFile, AFolderInTheWayIsTold) {
    const fs::path folder = test::fresh_folder("in_the_way");
    fs::create_directories(folder / "f/inside");
    EXPECT_EQ(
        test::message_of<IoError>([&] { AtomicFile().write(folder / "f", std::string_view("x")); }),
        "cannot put the file in place: Is a directory\n  where: " + (folder / "f").string() +
            "\n  do:    this path is a folder: choose another path, or move that folder away");
    EXPECT_EQ(entries_of(folder), (Entries{{"f", "folder"}}));
}

TEST(AtomicFile, AFileInPlaceOfAFolderIsTold) {
    const fs::path file = test::fresh_folder("below_file") / "f";
    AtomicFile().write(file, std::string_view("old"));
    EXPECT_EQ(
        test::message_of<IoError>([&] { AtomicFile().write(file / "g", std::string_view("x")); }),
        "cannot create the folder: File exists\n  where: " + file.string() +
            "\n  do:    a part of this path is a file, not a folder: choose another path, or move "
            "that file away");
    EXPECT_EQ(test::content_of(file), "old");
}

TEST(AtomicFile, ANameThatIsTooLongIsTold) {
    const fs::path folder = test::fresh_folder("long");
    const fs::path file = folder / std::string(250, 'x');
    EXPECT_EQ(test::message_of<IoError>([&] { AtomicFile().write(file, std::string_view("x")); }),
              "cannot create the file: File name too long\n  where: " + file.string() +
                  "\n  do:    choose a shorter name");
    EXPECT_EQ(entries_of(folder), Entries{});
}

TEST(AtomicFile, PointReplacesALinkAndRefusesAFolder) {
    const fs::path folder = test::fresh_folder("link");
    AtomicFile().point(folder / "adapter", "adapters/round_1");
    AtomicFile().point(folder / "adapter", "adapters/round_2");
    EXPECT_EQ(entries_of(folder), (Entries{{"adapter", "-> adapters/round_2"}}));
    fs::create_directories(folder / "solid/inside");
    EXPECT_THROW(AtomicFile().point(folder / "solid", "x"), IoError);
    EXPECT_EQ(entries_of(folder).size(), 2U);
}

TEST(RemoveLeftovers, TouchesOnlyNamesOfOurForm) {
    const fs::path folder = test::fresh_folder("leftovers");
    const Entries kept{{".hidden", "a"},
                       {"f.fedit-tmp.1.0", "b"},
                       {".f.fedit-tmp.x", "c"},
                       {".f.fedit-tmp.", "d"},
                       {".fedit-old", "e"}};
    for (const auto& [name, content] : kept) std::ofstream(folder / name) << content;
    std::ofstream(folder / ".f.fedit-tmp.123.0") << "torn";
    fs::create_directories(folder / ".g.fedit-tmp.123.1/inside");
    AtomicFile::remove_leftovers(folder);
    EXPECT_EQ(entries_of(folder), kept);
}

TEST(RemoveLeftovers, AcceptsAFolderThatIsNotThere) {
    EXPECT_NO_THROW(AtomicFile::remove_leftovers("no/such/folder"));
}

}  // namespace
}  // namespace fedit
