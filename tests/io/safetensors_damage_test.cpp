// tests/io/safetensors_damage_test.cpp: crafted files, each refused with its message.
#include <cstring>

#include "fedit/io/safetensors.h"
#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

const std::string fetch_again = "the file is damaged or cut off: fetch or write it again";
const std::string write_again = "write the file again with a safetensors library";
const std::string give_right_format = "give a file in the safetensors format";
const std::string correct_text = "correct the text there (python3 -m json.tool FILE checks it)";

std::string with_length(std::uint64_t length, std::string_view rest) {
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    return file.append(rest);
}

/// A file of this header and of this many bytes of data.
std::string file_of(const std::string& header, std::size_t data_size) {
    return with_length(header.size(), header + std::string(data_size, 'x'));
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
    return "\"" + name + R"(": {"dtype": ")" + dtype + R"(", "shape": )" + shape +
           R"(, "data_offsets": )" + offsets + "}";
}

/// The message of one fault; FILE stands for the path.
std::string fault(const std::string& what, const std::string& where, const std::string& remedy) {
    return what + "\n  where: FILE" + where + "\n  do:    " + remedy;
}

struct Damage {
    std::string name;
    std::string content;
    std::string message;
};

std::vector<Damage> lying_lengths() {
    return {
        {"empty_file", "", fault("not a safetensors file: only 0 bytes", "", fetch_again)},
        {"seven_bytes", "1234567", fault("not a safetensors file: only 7 bytes", "", fetch_again)},
        {"header_cut_off", with_length(10, "{}"),
         fault("the file is cut off: a header of 10 bytes, but only 2 bytes follow", "",
               fetch_again)},
        {"header_over_100_mb", with_length(100'000'001, "{}"),
         fault("not a safetensors file, or a damaged one: a header of 100000001 bytes (at most "
               "100000000 are allowed)",
               "", give_right_format)},
        {"header_length_overflows", with_length(~std::uint64_t{0}, "{}"),
         fault(
             "not a safetensors file, or a damaged one: a header of 18446744073709551615 bytes (at "
             "most 100000000 are allowed)",
             "", give_right_format)},
        {"no_header", with_length(0, ""),
         fault("the header does not begin with '{'", ", header", give_right_format)},
        {"header_is_an_array", file_of("[1]", 0),
         fault("the header does not begin with '{'", ", header", give_right_format)},
        {"data_cut_off", file_of("{" + tensor("w", "F32", "[2]", "[0, 8]") + "}", 7),
         fault("the header describes 8 bytes of data, the file has 7", "", fetch_again)},
        {"trailing_bytes", file_of("{" + tensor("w", "F32", "[2]", "[0, 8]") + "}", 9),
         fault("the header describes 8 bytes of data, the file has 9", "", fetch_again)},
        {"data_without_tensors", file_of("{}", 1),
         fault("the header describes 0 bytes of data, the file has 1", "", fetch_again)},
    };
}

std::vector<Damage> bad_json() {
    return {
        {"header_is_no_json", file_of("{\"w\": }", 0),
         fault("not valid JSON: syntax error while parsing value - unexpected '}'; expected '[', "
               "'{', "
               "or a literal",
               ", header, column 7", correct_text)},
        {"header_not_utf8", file_of("{\"\xff\": 1}", 0),
         fault("not valid JSON: syntax error while parsing object key - invalid string: ill-formed "
               "UTF-8 byte; expected string literal",
               ", header, column 3", correct_text)},
        {"text_after_the_header", file_of("{} x", 0),
         fault(
             "not valid JSON: syntax error while parsing value - invalid literal; expected end of "
             "input",
             ", header, column 4", correct_text)},
        {"duplicate_key",
         file_of("{" + tensor("w", "U8", "[1]", "[0, 1]") + "," +
                     tensor("w", "U8", "[1]", "[0, 1]") + "}",
                 1),
         fault("the key \"w\" appears twice", ", header, field w", "keep one of the two")},
        {"deep_nesting",
         file_of("{\"w\": " + std::string(100, '[') + std::string(100, ']') + "}", 0),
         fault("nested more than 64 levels deep", ", header",
               "give JSON with fewer levels of objects and arrays")},
        {"metadata_of_numbers", file_of(R"({"__metadata__": {"epoch": 3}})", 0),
         fault("expected a string, found an integer: 3", ", header, field __metadata__.epoch",
               "give a string there")},
        {"metadata_no_object", file_of(R"({"__metadata__": "pt"})", 0),
         fault("expected an object, found a string: \"pt\"", ", header, field __metadata__",
               "give an object there")},
        {"long_name", file_of("{" + tensor(std::string(1025, 'n'), "U8", "[1]", "[0, 1]") + "}", 1),
         fault("a tensor's name has 1025 bytes; at most 1024 are read",
               ", header, \"" + std::string(40, 'n') + "...\"", "rename the tensor")},
    };
}

std::vector<Damage> bad_tensors() {
    const std::string types =
        "known: BOOL, U8, I8, F8_E5M2, F8_E4M3, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64";
    const auto one = [](const std::string& entry, std::size_t size) {
        return file_of("{" + entry + "}", size);
    };
    return {
        {"tensor_no_object", one("\"w\": 1", 0),
         fault("expected an object, found an integer: 1", ", header, field w",
               "give an object there")},
        {"unknown_dtype", one(tensor("w", "F31", "[1]", "[0, 4]"), 4),
         fault("unknown dtype \"F31\"", ", header, field w.dtype", types)},
        {"no_dtype", one(R"("w": {"shape": [], "data_offsets": [0, 4]})", 4),
         fault("the field \"dtype\" is missing", ", header, field w.dtype", "add it")},
        {"no_shape", one(R"("w": {"dtype": "F32", "data_offsets": [0, 4]})", 4),
         fault("the field \"shape\" is missing", ", header, field w.shape", "add it")},
        {"no_offsets", one(R"("w": {"dtype": "F32", "shape": []})", 4),
         fault("the field \"data_offsets\" is missing", ", header, field w.data_offsets",
               "add it")},
        {"shape_no_array", one(tensor("w", "F32", "1", "[0, 4]"), 4),
         fault("expected an array, found an integer: 1", ", header, field w.shape",
               "give an array there")},
        {"negative_shape", one(tensor("w", "F32", "[1, -1]", "[0, 4]"), 4),
         fault("-1 is out of range", ", header, field w.shape[1]",
               "give an integer of at least 0")},
        {"fractional_shape", one(tensor("w", "F32", "[1.5]", "[0, 6]"), 6),
         fault("expected an integer of at least 0, found a number: 1.5",
               ", header, field w.shape[0]", "give an integer of at least 0 there")},
        {"shape_beyond_64_bits", one(tensor("w", "F32", "[18446744073709551616]", "[0, 4]"), 4),
         fault("expected an integer of at least 0, found a number: 1.8446744073709552e+19",
               ", header, field w.shape[0]", "give an integer of at least 0 there")},
        {"product_overflows", one(tensor("w", "F32", "[4294967296, 4294967296]", "[0, 0]"), 0),
         fault("the size of F32 [4294967296, 4294967296] overflows 64 bits",
               ", header, field w.shape", write_again)},
        {"product_times_size_overflows",
         one(tensor("w", "F64", "[2305843009213693952]", "[0, 0]"), 0),
         fault("the size of F64 [2305843009213693952] overflows 64 bits", ", header, field w.shape",
               write_again)},
        {"three_offsets", one(tensor("w", "F32", "[1]", "[0, 4, 8]"), 4),
         fault("data_offsets must be two integers, found [0,4,8]", ", header, field w.data_offsets",
               write_again)},
        {"one_offset", one(tensor("w", "F32", "[1]", "[4]"), 4),
         fault("data_offsets must be two integers, found [4]", ", header, field w.data_offsets",
               write_again)},
        {"negative_offset", one(tensor("w", "F32", "[1]", "[-4, 0]"), 4),
         fault("-4 is out of range", ", header, field w.data_offsets[0]",
               "give an integer of at least 0")},
        {"offsets_reversed", one(tensor("w", "F32", "[1]", "[4, 0]"), 4),
         fault("data_offsets [4, 0] do not hold the 4 bytes of F32 [1]",
               ", header, field w.data_offsets", fetch_again)},
        {"offsets_too_wide", one(tensor("w", "F32", "[1]", "[0, 8]"), 8),
         fault("data_offsets [0, 8] do not hold the 4 bytes of F32 [1]",
               ", header, field w.data_offsets", fetch_again)},
        {"offsets_beyond_the_file",
         one(tensor("w", "U8", "[4611686018427387904]", "[0, 4611686018427387904]"), 4),
         fault("the header describes 4611686018427387904 bytes of data, the file has 4", "",
               fetch_again)},
        {"hole_at_the_start", one(tensor("w", "F32", "[1]", "[4, 8]"), 8),
         fault("the data of a tensor leaves a hole before it: it begins at byte 4, the data before "
               "it "
               "ends at 0",
               ", tensor w", fetch_again)},
        {"hole",
         one(tensor("a", "U8", "[2]", "[0, 2]") + "," + tensor("b", "U8", "[2]", "[3, 5]"), 5),
         fault("the data of a tensor leaves a hole before it: it begins at byte 3, the data before "
               "it "
               "ends at 2",
               ", tensor b", fetch_again)},
        {"overlap",
         one(tensor("a", "U8", "[2]", "[0, 2]") + "," + tensor("b", "U8", "[2]", "[1, 3]"), 3),
         fault("the data of a tensor overlaps the tensor before it: it begins at byte 1, the data "
               "before it ends at 2",
               ", tensor b", fetch_again)},
        {"same_place_twice",
         one(tensor("a", "U8", "[2]", "[0, 2]") + "," + tensor("b", "U8", "[2]", "[0, 2]"), 2),
         fault("the data of a tensor overlaps the tensor before it: it begins at byte 0, the data "
               "before it ends at 2",
               ", tensor b", fetch_again)},
        {"two_faults_at_once",
         one(tensor("a", "X", "[2]", "[0, 2]") + "," + tensor("b", "U8", "[-2]", "[0, 2]"), 2),
         fault("unknown dtype \"X\"", ", header, field a.dtype", types) + "\n" +
             fault("-2 is out of range", ", header, field b.shape[0]",
                   "give an integer of at least 0")},
    };
}

class DamagedSafetensors : public testing::TestWithParam<Damage> {};

TEST_P(DamagedSafetensors, IsRefusedWithItsMessage) {
    const auto path = test::fresh_folder(GetParam().name) / "x.safetensors";
    AtomicFile().write(path, GetParam().content);
    std::string message = test::message_of<InputError>([&] { SafetensorsFile file(path); });
    for (auto at = message.find(path.string()); at != std::string::npos;
         at = message.find(path.string())) {
        message.replace(at, path.string().size(), "FILE");
    }
    EXPECT_EQ(message, GetParam().message);
}

const auto name_of = [](const auto& damage) { return damage.param.name; };
INSTANTIATE_TEST_SUITE_P(Lengths, DamagedSafetensors, testing::ValuesIn(lying_lengths()), name_of);
INSTANTIATE_TEST_SUITE_P(Json, DamagedSafetensors, testing::ValuesIn(bad_json()), name_of);
INSTANTIATE_TEST_SUITE_P(Tensors, DamagedSafetensors, testing::ValuesIn(bad_tensors()), name_of);

TEST(DamagedSafetensors, TellsAtMostTenFaults) {
    const auto path = test::fresh_folder("many") / "x.safetensors";
    std::string header = "{";
    for (int i = 0; i < 1000; ++i) {
        header += (i == 0 ? "" : ",") + tensor("w" + std::to_string(i), "X", "[]", "[0, 1]");
    }
    AtomicFile().write(path, file_of(header + "}", 0));
    try {
        const SafetensorsFile file(path);
        ADD_FAILURE() << "accepted";
    } catch (const InputError& error) {
        EXPECT_EQ(error.faults().size(), 10U);
    }
}

TEST(DamagedSafetensors, EveryCutOfAGoodFileIsRefused) {
    const auto folder = test::fresh_folder("cuts");
    const std::string good = file_of("{" + tensor("w", "F32", "[2]", "[0, 8]") + "}", 8);
    for (std::size_t size = 0; size < good.size(); ++size) {
        std::ofstream(folder / "x", std::ios::binary | std::ios::trunc) << good.substr(0, size);
        EXPECT_THROW(SafetensorsFile(folder / "x"), InputError) << size;
    }
    std::ofstream(folder / "x", std::ios::binary | std::ios::trunc) << good;
    EXPECT_NO_THROW(SafetensorsFile(folder / "x"));
}

TEST(DamagedSafetensors, AZeroDimensionHoldsNothingWhateverTheOthersAre) {
    const auto path = test::fresh_folder("zero") / "x.safetensors";
    AtomicFile().write(
        path, file_of("{" + tensor("w", "F32", "[4294967296, 4294967296, 0]", "[0, 0]") + "}", 0));
    EXPECT_EQ(SafetensorsFile(path).tensor("w").elements(), 0);
}

TEST(DamagedSafetensors, AnAbsentFileIsNamed) {
    const auto path = test::fresh_folder("absent") / "x.safetensors";
    EXPECT_EQ(test::message_of<InputError>([&] { SafetensorsFile file(path); }),
              "cannot read the file: No such file or directory\n  where: " + path.string() +
                  "\n  do:    check the spelling of the path");
}

}  // namespace
}  // namespace fedit
