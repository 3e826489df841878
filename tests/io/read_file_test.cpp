// tests/io/read_file_test.cpp: whole files, and what is said when there is none.
#include <sys/stat.h>

#include "fedit/io/atomic_file.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

TEST(ReadFile, GivesAllBytes) {
    const fs::path folder = test::fresh_folder("read");
    std::string text(300'000, 'x');
    text[7] = '\0';
    AtomicFile().write(folder / "f", text);
    AtomicFile().write(folder / "empty", std::string_view());
    EXPECT_EQ(read_text_file(folder / "f"), text);
    EXPECT_EQ(read_file(folder / "f"), test::to_bytes(text));
    EXPECT_EQ(read_text_file(folder / "empty"), "");
}

TEST(ReadFile, ReadsFilesWhoseSizeIsNotKnownBefore) {
    // Files below /proc say that they are empty.
    EXPECT_TRUE(read_text_file("/proc/self/status").starts_with("Name:"));
}

TEST(ReadFile, NamesAFileThatIsAbsent) {
    const fs::path path = test::fresh_folder("absent") / "data.jsonl";
    EXPECT_EQ(test::message_of<InputError>([&] { read_file(path); }),
              "cannot read the file: No such file or directory\n  where: " + path.string() +
                  "\n  do:    check the spelling of the path");
}

TEST(ReadFile, NamesAFolder) {
    const fs::path path = test::fresh_folder("a_folder");
    EXPECT_EQ(
        test::message_of<InputError>([&] { read_text_file(path); }),
        "cannot read the file: Is a directory\n  where: " + path.string() +
            "\n  do:    this path is a folder: choose another path, or move that folder away");
}

TEST(ReadFile, DoesNotWaitForAPipe) {
    const fs::path path = test::fresh_folder("pipe") / "pipe";
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(test::message_of<InputError>([&] { read_file(path); }),
              "cannot read the file: it is not a regular file\n  where: " + path.string() +
                  "\n  do:    copy its content to a file on disk and name that");
}

TEST(ReadFile, KeepsItsLimit) {
    const fs::path path = test::fresh_folder("large") / "f";
    AtomicFile().write(path, std::string(2048, 'x'));
    EXPECT_EQ(read_file(path, 2048).size(), 2048U);
    EXPECT_EQ(test::message_of<InputError>([&] { read_file(path, 1024); }),
              "the file is too large: 2.0 KiB\n  where: " + path.string() +
                  "\n  do:    give a file of at most 1.0 KiB");
}

}  // namespace
}  // namespace fedit
