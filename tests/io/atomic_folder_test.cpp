// tests/io/atomic_folder_test.cpp: whole folders, killed and failing at every named point.
#include "fedit/io/atomic_file.h"
#include "io/replace_folder.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::entries_of;
using Entries = std::map<std::string, std::string>;
using Members = std::vector<AtomicFile::Member>;

Members members(std::string_view tag) {
    return {{"adapter_config.json", test::to_bytes(std::string(tag) + " config")},
            {"adapter_model.safetensors", test::to_bytes(std::string(tag) + " weights")}};
}

Entries expected(const std::string& tag) {
    return {{"adapter_config.json", tag + " config"},
            {"adapter_model.safetensors", tag + " weights"}};
}

TEST(WriteFolder, CreatesAndReplacesAndLeavesNothingElse) {
    const fs::path parent = test::fresh_folder("folders");
    AtomicFile().write_folder(parent / "adapters/round_1", members("old"));
    EXPECT_EQ(entries_of(parent / "adapters/round_1"), expected("old"));
    AtomicFile().write_folder(parent / "adapters/round_1/", Members{{"one", test::to_bytes("x")}});
    EXPECT_EQ(entries_of(parent / "adapters/round_1"), (Entries{{"one", "x"}}));
    EXPECT_EQ(entries_of(parent / "adapters"), (Entries{{"round_1", "folder"}}));
}

TEST(WriteFolder, MakesOneFileAfterTheOther) {
    const fs::path parent = test::fresh_folder("lazy");
    int made = 0;
    const auto member = [&](const char* name, int turn) {
        return AtomicFile::LazyMember{name, [&made, turn] {
                                          EXPECT_EQ(made++, turn);
                                          return test::to_bytes("x");
                                      }};
    };
    const std::vector<AtomicFile::LazyMember> lazy{member("a", 0), member("b", 1)};
    AtomicFile().write_folder(parent / "model", lazy);
    EXPECT_EQ(made, 2);
    EXPECT_EQ(entries_of(parent / "model"), (Entries{{"a", "x"}, {"b", "x"}}));
}

TEST(WriteFolder, AFileThatCannotBeMadeLeavesNothing) {
    const fs::path parent = test::fresh_folder("lazy_failure");
    const std::vector<AtomicFile::LazyMember> lazy{
        {"a", [] { return test::to_bytes("x"); }},
        {"b", []() -> std::vector<std::byte> {
             throw RunError({.what = "no weights", .where = "b", .remedy = ""});
         }}};
    EXPECT_THROW(AtomicFile().write_folder(parent / "model", lazy), RunError);
    EXPECT_EQ(entries_of(parent), Entries{});
}

class WriteFolderAt : public testing::TestWithParam<WritePoint> {};

TEST_P(WriteFolderAt, KilledLeavesTheOldFolderOrTheNewWhole) {
    const fs::path parent = test::fresh_folder("kill");
    AtomicFile().write_folder(parent / "adapter", members("old"));
    ASSERT_TRUE(test::is_killed_in([&] {
        AtomicFile(test::kill_at(GetParam())).write_folder(parent / "adapter", members("new"));
    }));
    // Before anything is cleaned up, a reader sees a whole folder.
    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(entries_of(parent / "adapter"), expected(arrived ? "new" : "old"));
    AtomicFile::remove_leftovers(parent);
    EXPECT_EQ(entries_of(parent), (Entries{{"adapter", "folder"}}));
    EXPECT_EQ(entries_of(parent / "adapter"), expected(arrived ? "new" : "old"));
}

TEST_P(WriteFolderAt, KilledOnTheFirstWriteLeavesNoFolderOrAWholeOne) {
    const fs::path parent = test::fresh_folder("kill_first");
    ASSERT_TRUE(test::is_killed_in([&] {
        AtomicFile(test::kill_at(GetParam())).write_folder(parent / "adapter", members("new"));
    }));
    AtomicFile::remove_leftovers(parent);
    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(fs::exists(parent / "adapter"), arrived);
    if (arrived) {
        EXPECT_EQ(entries_of(parent / "adapter"), expected("new"));
    }
    EXPECT_EQ(entries_of(parent).size(), arrived ? 1U : 0U);
}

TEST_P(WriteFolderAt, AFullDiskLeavesAWholeFolderAndNothingElse) {
    const fs::path parent = test::fresh_folder("full");
    AtomicFile().write_folder(parent / "adapter", members("old"));
    const AtomicFile atomic(test::fill_disk_at(GetParam()));
    EXPECT_THROW(atomic.write_folder(parent / "adapter", members("new")), IoError);
    const bool arrived = GetParam() >= WritePoint::renamed;
    EXPECT_EQ(entries_of(parent / "adapter"), expected(arrived ? "new" : "old"));
    EXPECT_EQ(entries_of(parent), (Entries{{"adapter", "folder"}}));
}

INSTANTIATE_TEST_SUITE_P(Points, WriteFolderAt, testing::ValuesIn(test::all_points),
                         [](const auto& at) { return std::string(to_string(at.param)); });

TEST(WriteFolder, BytesThatWereNeverSyncedAreNeverSeen) {
    const fs::path parent = test::fresh_folder("dropped");
    AtomicFile().write_folder(parent / "adapter", members("old"));
    const WriteHook lose_power = [&](WritePoint point, const fs::path&) {
        if (point != WritePoint::written) return;
        for (const auto& entry : fs::recursive_directory_iterator(parent)) {
            const bool is_torn = entry.path().parent_path().filename().string().starts_with('.');
            if (is_torn) fs::resize_file(entry.path(), 0);
        }
        ::kill(::getpid(), SIGKILL);
    };
    ASSERT_TRUE(test::is_killed_in(
        [&] { AtomicFile(lose_power).write_folder(parent / "adapter", members("new")); }));
    EXPECT_EQ(entries_of(parent / "adapter"), expected("old"));
}

TEST(WriteFolder, RefusesToReplaceAFileOrALink) {
    const fs::path parent = test::fresh_folder("no_folder");
    std::ofstream(parent / "file") << "precious";
    fs::create_directory(parent / "target");
    fs::create_directory_symlink("target", parent / "link");
    for (const char* name : {"file", "link"}) {
        EXPECT_EQ(
            test::message_of<IoError>(
                [&] { AtomicFile().write_folder(parent / name, members("new")); }),
            "cannot replace the folder: Not a directory\n  where: " + (parent / name).string() +
                "\n  do:    a part of this path is a file, not a folder: choose another path, or "
                "move that file away");
    }
    EXPECT_EQ(entries_of(parent),
              (Entries{{"file", "precious"}, {"link", "-> target"}, {"target", "folder"}}));
}

TEST(WriteFolder, RefusesNamesThatLeadOutOfTheFolder) {
    const fs::path parent = test::fresh_folder("names");
    for (const char* name : {"", ".", "..", "../x", "a/b"}) {
        const Members bad{{name, test::to_bytes("x")}};
        EXPECT_THROW(AtomicFile().write_folder(parent / "adapter", bad), RunError) << name;
    }
    EXPECT_EQ(entries_of(parent), Entries{});
}

TEST(ReplaceByTwoRenames, GivesTheNewFolderAndKeepsTheOldAside) {
    const fs::path parent = test::fresh_folder("two_renames");
    fs::create_directories(parent / "adapter/old");
    fs::create_directories(parent / "fresh/new");
    const fs::path aside = replace_by_two_renames(parent / "fresh", parent / "adapter");
    EXPECT_EQ(entries_of(parent / "adapter"), (Entries{{"new", "folder"}}));
    EXPECT_EQ(entries_of(aside), (Entries{{"old", "folder"}}));
    AtomicFile::remove_leftovers(parent);
    EXPECT_EQ(entries_of(parent), (Entries{{"adapter", "folder"}}));
}

TEST(ReplaceByTwoRenames, PutsTheOldFolderBackIfTheNewOneCannotCome) {
    const fs::path parent = test::fresh_folder("put_back");
    fs::create_directories(parent / "adapter/old");
    EXPECT_THROW(replace_by_two_renames(parent / "absent", parent / "adapter"), IoError);
    EXPECT_EQ(entries_of(parent / "adapter"), (Entries{{"old", "folder"}}));
    EXPECT_EQ(entries_of(parent), (Entries{{"adapter", "folder"}}));
}

TEST(ReplaceByTwoRenames, KilledBetweenItsRenamesIsRestored) {
    // What such a kill leaves: the old folder aside, the new one under its temporary name.
    const fs::path parent = test::fresh_folder("between");
    fs::create_directories(parent / ".adapter.fedit-old/old");
    fs::create_directories(parent / ".adapter.fedit-tmp.123.0/new");
    AtomicFile::remove_leftovers(parent);
    EXPECT_EQ(entries_of(parent), (Entries{{"adapter", "folder"}}));
    EXPECT_EQ(entries_of(parent / "adapter"), (Entries{{"old", "folder"}}));
}

}  // namespace
}  // namespace fedit
