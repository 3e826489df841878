// tests/io/hdf5_image_test.cpp: what is written reads back, here and in HDF5's own tools.
#include "fedit/io/hdf5_image.h"

#include <hdf5.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <thread>

#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

const ColumnInfo info{.units = "s", .description = "what it is"};

std::vector<std::byte> small_file() {
    Hdf5Writer writer;
    writer.attribute("/", "creator", "fedit \xc3\xa9");
    writer.attribute("/", "seed", std::int64_t{42});
    writer.attribute("/lives/0", "seconds", 1.5);
    writer.column("/rounds/train_loss", std::vector<double>{1.5, 0.25}, info);
    writer.column("/rounds/hosts", std::vector<std::string>{"a", "", "c\xc3\xa9"}, info);
    return writer.finish(FileKind::run_log);
}

Hdf5Reader read_back(Hdf5Writer& writer) {
    return {writer.finish(FileKind::checkpoint), FileKind::checkpoint, "memory"};
}

TEST(Hdf5, AttributesReadBack) {
    Hdf5Writer writer;
    const std::string large(200'000, 'x');
    writer.attribute("/", "creator", "fedit \xc3\xa9");
    writer.attribute("/", "empty", "");
    writer.attribute("/", "configuration", large);
    writer.attribute("/", "least", std::numeric_limits<std::int64_t>::min());
    writer.attribute("/a/b", "rate", 0.1);
    const Hdf5Reader reader = read_back(writer);
    EXPECT_EQ(reader.text_attribute("/", "creator"), "fedit \xc3\xa9");
    EXPECT_EQ(reader.text_attribute("/", "empty"), "");
    EXPECT_EQ(reader.text_attribute("/", "configuration"), large);
    EXPECT_EQ(reader.int_attribute("/", "least"), std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(reader.double_attribute("/a/b", "rate"), 0.1);
    EXPECT_TRUE(reader.has_attribute("/", "creator"));
    EXPECT_FALSE(reader.has_attribute("/", "creators"));
    EXPECT_FALSE(reader.has_attribute("/absent", "creator"));
    EXPECT_EQ(reader.source(), "memory");
}

TEST(Hdf5, ColumnsReadBack) {
    Hdf5Writer writer;
    const std::vector<float> floats{1.5F, -0.0F, std::numeric_limits<float>::denorm_min(),
                                    std::numeric_limits<float>::infinity()};
    const std::vector<double> doubles{0.1, std::nan("")};
    const std::vector<std::int64_t> ints{std::numeric_limits<std::int64_t>::min(), -1, 7};
    const std::vector<std::string> texts{"", "plain", "\xc3\xa9\xe2\x82\xac"};
    writer.column("/c/floats", floats, info);
    writer.column("/c/doubles", doubles, info);
    writer.column("/c/ints", ints, info);
    writer.column("/c/texts", texts, info);
    const Hdf5Reader reader = read_back(writer);
    EXPECT_EQ(reader.floats("/c/floats"), floats);
    EXPECT_TRUE(std::signbit(reader.floats("/c/floats")[1]));
    ASSERT_EQ(reader.doubles("/c/doubles").size(), 2U);
    EXPECT_EQ(reader.doubles("/c/doubles")[0], 0.1);
    EXPECT_TRUE(std::isnan(reader.doubles("/c/doubles")[1]));
    EXPECT_EQ(reader.doubles("/c/floats")[0], 1.5) << "floats widen without loss";
    EXPECT_EQ(reader.ints("/c/ints"), ints);
    EXPECT_EQ(reader.strings("/c/texts"), texts);
    EXPECT_EQ(reader.text_attribute("/c/floats", "units"), "s");
    EXPECT_EQ(reader.text_attribute("/c/floats", "description"), "what it is");
}

TEST(Hdf5, ColumnsOfEverySizeAroundAChunkReadBack) {
    for (const std::size_t size : {0U, 1U, 65'535U, 65'536U, 65'537U, 200'000U}) {
        std::vector<std::int64_t> values(size);
        std::iota(values.begin(), values.end(), 0);
        Hdf5Writer writer;
        writer.column("/x", values, info);
        writer.column("/t", std::vector<std::string>(size == 0 ? 0 : 3, "t"), info);
        const Hdf5Reader reader = read_back(writer);
        EXPECT_EQ(reader.ints("/x"), values);
        EXPECT_EQ(reader.strings("/t").size(), size == 0 ? 0U : 3U);
    }
}

TEST(Hdf5, ListsWhatItHolds) {
    const Hdf5Reader reader(small_file(), FileKind::run_log, "memory");
    using Names = std::vector<std::string>;
    EXPECT_EQ(reader.names("/"), (Names{"lives", "rounds"}));
    EXPECT_EQ(reader.names("/rounds"), (Names{"hosts", "train_loss"}));
    EXPECT_EQ(reader.names("/lives/0"), Names{});
    EXPECT_TRUE(reader.has("/"));
    EXPECT_TRUE(reader.has("/rounds/train_loss"));
    EXPECT_FALSE(reader.has("/round/train_loss"));
    EXPECT_FALSE(reader.has("/rounds/train_loss/x"));
}

TEST(Hdf5, SeveralFilesLiveSideBySide) {
    Hdf5Writer first, second;
    first.attribute("/", "n", std::int64_t{1});
    second.attribute("/", "n", std::int64_t{2});
    const Hdf5Reader a = read_back(first);
    const Hdf5Reader b = read_back(second);
    EXPECT_EQ(a.int_attribute("/", "n"), 1);
    EXPECT_EQ(b.int_attribute("/", "n"), 2);
}

TEST(Hdf5, AWriterIsEmptyAfterwards) {
    Hdf5Writer writer;
    writer.column("/x", std::vector<float>{1}, info);
    EXPECT_TRUE(read_back(writer).has("/x"));
    EXPECT_FALSE(read_back(writer).has("/x"));
}

TEST(Hdf5, EqualContentGivesEqualBytesAtAnyTime) {
    const std::vector<std::byte> now = small_file();
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 counts time in seconds
    EXPECT_EQ(small_file(), now);
}

TEST(Hdf5, RefusesWhatIsNotThereOrOfAnotherType) {
    const Hdf5Reader reader(small_file(), FileKind::run_log, "run.h5");
    const auto refusal = [](auto call) { return test::message_of<InputError>(call); };
    const std::string remedy = "\n  do:    give a file that this version of fedit wrote";
    EXPECT_EQ(refusal([&] { reader.floats("/rounds/loss"); }),
              "there is no /rounds/loss\n  where: run.h5, /rounds/loss" + remedy);
    EXPECT_EQ(refusal([&] { reader.floats("/rounds/train_loss"); }),
              "expected floats of 32 bits\n  where: run.h5, column /rounds/train_loss" + remedy);
    EXPECT_EQ(refusal([&] { reader.ints("/rounds/hosts"); }),
              "expected signed integers\n  where: run.h5, column /rounds/hosts" + remedy);
    EXPECT_EQ(refusal([&] { reader.strings("/rounds/train_loss"); }),
              "expected text\n  where: run.h5, column /rounds/train_loss" + remedy);
    EXPECT_EQ(refusal([&] { reader.doubles("/rounds"); }),
              "expected a column, found a group\n  where: run.h5, column /rounds" + remedy);
    EXPECT_EQ(refusal([&] { reader.names("/rounds/hosts"); }),
              "expected a group, found a column\n  where: run.h5, /rounds/hosts" + remedy);
    EXPECT_EQ(refusal([&] { reader.int_attribute("/", "creator"); }),
              "expected an integer\n  where: run.h5, attribute creator of /" + remedy);
    EXPECT_EQ(refusal([&] { reader.double_attribute("/", "seed"); }),
              "expected a floating-point number\n  where: run.h5, attribute seed of /" + remedy);
    EXPECT_EQ(refusal([&] { reader.text_attribute("/", "git"); }),
              "there is no attribute git\n  where: run.h5, attribute git of /" + remedy);
}

TEST(Hdf5, RefusesToWriteTwiceOrAZeroByte) {
    Hdf5Writer writer;
    writer.attribute("/", "a", std::int64_t{1});
    EXPECT_THROW(writer.attribute("/", "a", std::int64_t{2}), RunError);
    writer.column("/x", std::vector<float>{1}, info);
    EXPECT_THROW(writer.column("/x", std::vector<float>{1}, info), RunError);
    EXPECT_THROW(writer.column("/x/y", std::vector<float>{1}, info), RunError);
    const std::string zero("a\0b", 3);
    EXPECT_EQ(test::message_of<RunError>([&] { writer.attribute("/", "t", zero); }),
              "text with a zero byte cannot be stored in HDF5\n  where: attribute t of /\n"
              "  do:    remove the zero byte from the text");
    EXPECT_THROW(writer.column("/t", std::vector<std::string>{zero}, info), RunError);
}

TEST(Hdf5, NeverPrintsItsOwnErrors) {
    testing::internal::CaptureStderr();
    Hdf5Writer writer;
    writer.attribute("/", "a", std::int64_t{1});
    EXPECT_THROW(writer.attribute("/", "a", std::int64_t{2}), RunError);
    const Hdf5Reader reader = read_back(writer);
    EXPECT_THROW(reader.floats("/absent/x"), InputError);
    EXPECT_THROW(reader.names("/a"), InputError);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Hdf5, OpensInThePlainLibraryAsItLies) {
    const fs::path path = test::fresh_folder("plain") / "run.h5";
    AtomicFile().write(path, small_file());
    const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    ASSERT_GE(file, 0);
    const hid_t creation = H5Fget_create_plist(file);
    hsize_t user_block = 0;
    EXPECT_GE(H5Pget_userblock(creation, &user_block), 0);
    EXPECT_EQ(user_block, file_header_size);
    const hid_t column = H5Dopen2(file, "/rounds/train_loss", H5P_DEFAULT);
    ASSERT_GE(column, 0);
    double values[2] = {0, 0};
    EXPECT_GE(H5Dread(column, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0);
    EXPECT_EQ(values[0], 1.5);
    EXPECT_EQ(values[1], 0.25);
    const hid_t layout = H5Dget_create_plist(column);
    unsigned flags = 0;
    std::size_t no_values = 0;
    EXPECT_EQ(H5Pget_filter2(layout, 0, &flags, &no_values, nullptr, 0, nullptr, nullptr),
              H5Z_FILTER_FLETCHER32);
    H5Pclose(layout);
    H5Dclose(column);
    H5Pclose(creation);
    H5Fclose(file);
}

TEST(Hdf5, OpensInH5dump) {
    if (std::system("command -v h5dump > which.txt 2>&1") != 0) GTEST_SKIP() << "no h5dump here";
    const fs::path folder = test::fresh_folder("h5dump");
    AtomicFile().write(folder / "run.h5", small_file());
    const std::string command = "h5dump '" + (folder / "run.h5").string() + "' > '" +
                                (folder / "dump.txt").string() + "' 2>&1";
    ASSERT_EQ(std::system(command.c_str()), 0);
    const std::string dump = test::content_of(folder / "dump.txt");
    for (const char* part : {"train_loss", "1.5, 0.25", "creator", "H5S_UNLIMITED"}) {
        EXPECT_NE(dump.find(part), std::string::npos) << part << " is not in\n" << dump;
    }
}

TEST(Hdf5, ReadsAFileFromDisk) {
    const fs::path path = test::fresh_folder("disk") / "run.h5";
    AtomicFile().write(path, small_file());
    const Hdf5Reader reader(path, FileKind::run_log);
    EXPECT_EQ(reader.int_attribute("/", "seed"), 42);
    EXPECT_EQ(reader.source(), path.string());
    EXPECT_TRUE(is_intact(path, FileKind::run_log));
}

}  // namespace
}  // namespace fedit
