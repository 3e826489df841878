// tests/io/hdf5_damage_test.cpp: a damaged or foreign file is refused before HDF5 sees a byte.
#include <algorithm>

#include "fedit/io/hdf5_image.h"
#include "io/hdf5_header.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

const std::string restore =
    "\n  where: x.h5\n  do:    restore the file from a copy, or remove it and let fedit write it "
    "again";

Bytes good_file() {
    Hdf5Writer writer;
    writer.column("/x", std::vector<float>{1, 2, 3}, {.units = "1", .description = "x"});
    return writer.finish(FileKind::checkpoint);
}

std::string refusal(Bytes file, FileKind kind = FileKind::checkpoint) {
    return test::message_of<InputError>([&] { Hdf5Reader reader(std::move(file), kind, "x.h5"); });
}

TEST(DamagedHdf5, AFlipOfAnyByteIsFound) {
    const Bytes good = good_file();
    ASSERT_FALSE(find_file_fault(good, FileKind::checkpoint, "x.h5"));
    Bytes bad = good;
    for (std::size_t i = 0; i < good.size(); ++i) {
        bad[i] = good[i] ^ (std::byte{1} << (i % 8));
        ASSERT_TRUE(find_file_fault(bad, FileKind::checkpoint, "x.h5")) << "byte " << i;
        bad[i] = good[i];
    }
}

TEST(DamagedHdf5, ACutAnywhereIsFound) {
    const Bytes good = good_file();
    for (std::size_t size = 0; size < good.size(); ++size) {
        ASSERT_TRUE(find_file_fault(std::span(good).first(size), FileKind::checkpoint, "x.h5"))
            << size;
    }
}

TEST(DamagedHdf5, DamagedContentIsTold) {
    Bytes bad = good_file();
    bad.back() ^= std::byte{1};
    EXPECT_EQ(refusal(bad),
              "the content is damaged: its SHA-256 is not the one in the header" + restore);
}

TEST(DamagedHdf5, ADamagedHeaderIsTold) {
    Bytes bad = good_file();
    bad[file_header_size - 1] = std::byte{1};
    EXPECT_EQ(refusal(bad), "the header is damaged" + restore);
}

TEST(DamagedHdf5, ACutFileIsTold) {
    Bytes bad = good_file();
    const std::size_t image = bad.size() - file_header_size;
    bad.pop_back();
    EXPECT_EQ(refusal(bad), "the file is cut off: " + std::to_string(image - 1) +
                                " bytes after the header, which says " + std::to_string(image) +
                                restore);
    bad.resize(100);
    EXPECT_EQ(refusal(bad), "the file is cut off within its header: 100 bytes" + restore);
}

TEST(DamagedHdf5, ExtraBytesAreTold) {
    Bytes bad = good_file();
    const std::size_t image = bad.size() - file_header_size;
    bad.push_back(std::byte{0});
    EXPECT_EQ(refusal(bad), "the file is too long: " + std::to_string(image + 1) +
                                " bytes after the header, which says " + std::to_string(image) +
                                restore);
}

TEST(DamagedHdf5, TheWrongKindIsTold) {
    EXPECT_EQ(refusal(good_file(), FileKind::run_log),
              "this is a checkpoint, not a run log\n  where: x.h5\n"
              "  do:    give a run log written by fedit");
    Bytes unknown = good_file();
    unknown[9] = std::byte{1};
    EXPECT_EQ(refusal(unknown),
              "this is a file of an unknown kind, not a checkpoint\n  where: x.h5\n"
              "  do:    give a checkpoint written by fedit");
}

TEST(DamagedHdf5, AnotherSchemaIsTold) {
    Bytes other = good_file();
    other[12] = std::byte{7};
    EXPECT_EQ(refusal(other),
              "written in schema 7; this program reads schema 1\n  where: x.h5\n"
              "  do:    use the version of fedit that wrote it");
}

TEST(DamagedHdf5, AFileThatIsNotOursIsTold) {
    const std::string foreign =
        "not a file that fedit wrote, or its first bytes are damaged\n  where: x.h5\n"
        "  do:    give a checkpoint written by fedit";
    EXPECT_EQ(refusal({}), foreign);
    EXPECT_EQ(refusal(test::to_bytes("\x89HDF\r\n\x1a\n and more")), foreign);
    EXPECT_EQ(refusal(test::to_bytes("{\"json\": true}")), foreign);
}

TEST(DamagedHdf5, AnImageThatHdf5CannotOpenIsRefusedQuietly) {
    // A true header before bytes that are no HDF5: only we could have made it, and still no print.
    const Bytes nonsense(4096, std::byte{0x5A});
    const auto header = make_file_header(FileKind::checkpoint, nonsense);
    Bytes file(header.size() + nonsense.size());
    std::ranges::copy(nonsense, std::ranges::copy(header, file.begin()).out);
    testing::internal::CaptureStderr();
    EXPECT_THROW(Hdf5Reader(file, FileKind::checkpoint, "x.h5"), RunError);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(IsIntact, NeverThrows) {
    const fs::path folder = test::fresh_folder("intact");
    Bytes file = good_file();
    AtomicFile().write(folder / "good.h5", file);
    file[600] ^= std::byte{1};
    AtomicFile().write(folder / "bad.h5", file);
    EXPECT_TRUE(is_intact(folder / "good.h5", FileKind::checkpoint));
    EXPECT_FALSE(is_intact(folder / "good.h5", FileKind::run_log));
    EXPECT_FALSE(is_intact(folder / "bad.h5", FileKind::checkpoint));
    EXPECT_FALSE(is_intact(folder / "absent.h5", FileKind::checkpoint));
    EXPECT_FALSE(is_intact(folder, FileKind::checkpoint));
}

}  // namespace
}  // namespace fedit
