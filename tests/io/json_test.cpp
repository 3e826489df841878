// tests/io/json_test.cpp: values, their places, and what is said when they are wrong.
#include "fedit/io/json.h"

#include <cmath>
#include <limits>

#include "tests/io/helpers.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

Json parse(std::string_view text) {
    return Json::parse(text, "config.json");
}

template <class Call>
std::string refusal(Call call) {
    return test::message_of<InputError>(call);
}

std::string refusal_of(std::string_view text) {
    return refusal([&] { parse(text); });
}

TEST(Json, GivesEveryKindOfValue) {
    const Json json = parse(R"({"n": null, "b": true, "i": -3, "d": 2.5, "s": "x\u00e9\n",
                                "a": [1, [2]], "o": {"k": "v"}})");
    EXPECT_TRUE(json.is_object());
    EXPECT_EQ(json.size(), 7U);
    EXPECT_EQ(json.keys(), (std::vector<std::string>{"n", "b", "i", "d", "s", "a", "o"}));
    EXPECT_TRUE(json["n"].is_null());
    EXPECT_TRUE(json["b"].as_bool());
    EXPECT_EQ(json["i"].as_int(), -3);
    EXPECT_EQ(json["i"].as_double(), -3.0);
    EXPECT_EQ(json["d"].as_double(), 2.5);
    EXPECT_EQ(json["s"].as_string(), "x\xc3\xa9\n");
    EXPECT_EQ(json["a"][1][0].as_int(), 2);
    EXPECT_EQ(json["o"]["k"].as_string(), "v");
}

TEST(Json, KnowsIntegersFromOtherNumbers) {
    EXPECT_TRUE(parse("9223372036854775807").is_integer());
    EXPECT_TRUE(parse("-9223372036854775808").is_integer());
    EXPECT_FALSE(parse("9223372036854775808").is_integer());
    EXPECT_TRUE(parse("9223372036854775808").is_number());
    EXPECT_FALSE(parse("1.0").is_integer());
    EXPECT_EQ(parse("-9223372036854775808").as_int(), std::numeric_limits<std::int64_t>::min());
}

TEST(Json, FallsBackWhereAFieldIsAbsentOrNull) {
    const Json json = parse(R"({"null": null, "x": 2, "flag": true, "name": "n", "half": 0.5})");
    EXPECT_FALSE(json.has("null"));
    EXPECT_FALSE(json.has("absent"));
    EXPECT_TRUE(json.has("x"));
    EXPECT_EQ(json.int_or("null", 7), 7);
    EXPECT_EQ(json.int_or("x", 7), 2);
    EXPECT_EQ(json.number_or("half", 1), 0.5);
    EXPECT_EQ(json.number_or("absent", 1), 1);
    EXPECT_TRUE(json.bool_or("flag", false));
    EXPECT_EQ(json.string_or("name", "m"), "n");
    EXPECT_EQ(json.string_or("absent", "m"), "m");
    EXPECT_EQ(refusal([&] { json.int_or("name", 7); }),
              "expected an integer, found a string: \"n\"\n  where: config.json, field name\n"
              "  do:    give an integer there");
}

TEST(Json, OutlivesTheDocumentItCameFrom) {
    Json inner = parse("1");
    { inner = parse(R"({"a": {"b": "text"}})")["a"]["b"]; }
    EXPECT_EQ(inner.as_string(), "text");
    EXPECT_EQ(inner.where(), "config.json, field a.b");
}

TEST(Json, NamesThePathOfAValue) {
    const Json json = parse(R"({"rope_scaling": {"factor": [1, {"x y": 2}]}, "": 1})");
    EXPECT_EQ(json.where(), "config.json");
    EXPECT_EQ(json["rope_scaling"]["factor"][0].where(),
              "config.json, field rope_scaling.factor[0]");
    EXPECT_EQ(json["rope_scaling"]["factor"][1]["x y"].where(),
              "config.json, field rope_scaling.factor[1][\"x y\"]");
    EXPECT_EQ(json[""].where(), "config.json, field [\"\"]");
    EXPECT_EQ(parse("[[5]]")[0][0].where(), "config.json, field [0][0]");
    EXPECT_EQ(json["rope_scaling"].source(), "config.json");
}

TEST(Json, SaysWhatItExpectedAndWhatItFound) {
    const Json json = parse(R"({"rope_scaling": {"factor": "8"}, "list": [1]})");
    EXPECT_EQ(refusal([&] { json["rope_scaling"]["factor"].as_double(); }),
              "expected a number, found a string: \"8\"\n"
              "  where: config.json, field rope_scaling.factor\n  do:    give a number there");
    EXPECT_EQ(refusal([&] { json["list"].as_bool(); }),
              "expected true or false, found an array: [1]\n  where: config.json, field list\n"
              "  do:    give true or false there");
    EXPECT_EQ(refusal([&] { json["list"].as_string(); }),
              "expected a string, found an array: [1]\n  where: config.json, field list\n"
              "  do:    give a string there");
    EXPECT_EQ(refusal([&] { json["list"]["x"]; }),
              "expected an object, found an array: [1]\n  where: config.json, field list\n"
              "  do:    give an object there");
    EXPECT_EQ(refusal([&] { json["rope_scaling"][0]; }),
              "expected an array, found an object: {\"factor\":\"8\"}\n"
              "  where: config.json, field rope_scaling\n  do:    give an array there");
    EXPECT_EQ(refusal([&] { json["rope_scaling"]["factor"].size(); }),
              "expected an array or an object, found a string: \"8\"\n"
              "  where: config.json, field rope_scaling.factor\n"
              "  do:    give an array or an object there");
}

TEST(Json, ChecksRanges) {
    const Json json = parse(R"({"r": 0, "x": 1.5})");
    EXPECT_EQ(json["r"].as_int(0, 0), 0);
    EXPECT_EQ(
        refusal([&] { json["r"].as_int(1, 8); }),
        "0 is out of range\n  where: config.json, field r\n  do:    give an integer from 1 to 8");
    EXPECT_EQ(
        refusal([&] { json["r"].as_int(1); }),
        "0 is out of range\n  where: config.json, field r\n  do:    give an integer of at least 1");
    EXPECT_EQ(refusal([&] { json["x"].as_int(1, 8); }),
              "expected an integer from 1 to 8, found a number: 1.5\n"
              "  where: config.json, field x\n  do:    give an integer from 1 to 8 there");
}

TEST(Json, NamesAMissingFieldAndWhatItMayHaveBeenMeantBy) {
    const Json json = parse(R"({"rope": {"facto": 1}})");
    EXPECT_EQ(refusal([&] { json["rope"]["factor"]; }),
              "the field \"factor\" is missing\n  where: config.json, field rope.factor\n"
              "  do:    add it; did you mean it by: facto?");
    EXPECT_EQ(refusal([&] { json["vocab_size"]; }),
              "the field \"vocab_size\" is missing\n  where: config.json, field vocab_size\n"
              "  do:    add it");
    EXPECT_EQ(refusal([&] { parse("[1, 2]")[2]; }),
              "element 2 is missing: the array has 2\n  where: config.json\n"
              "  do:    give at least 3 elements");
}

TEST(Json, RefusesDuplicateKeysAndNamesThemAll) {
    EXPECT_EQ(refusal_of(R"({"a": {"x": 1, "y": 2, "x": 3}, "b": 1, "b": 1})"),
              "the key \"x\" appears twice\n  where: config.json, field a.x\n"
              "  do:    keep one of the two\n"
              "the key \"b\" appears twice\n  where: config.json, field b\n"
              "  do:    keep one of the two");
}

TEST(Json, RefusesDeepNesting) {
    const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    EXPECT_NO_THROW(parse(nested(64)));
    EXPECT_EQ(refusal_of(nested(65)),
              "nested more than 64 levels deep\n  where: config.json\n"
              "  do:    give JSON with fewer levels of objects and arrays");
    EXPECT_NE(refusal_of(std::string(1'000'000, '[')), "no error");
}

TEST(Json, NamesThePlaceOfASyntaxError) {
    EXPECT_EQ(refusal_of("{\n  \"a\": 1,\n  \"b\": tru\n}"),
              "not valid JSON: syntax error while parsing value - invalid literal\n"
              "  where: config.json, line 3, column 11\n"
              "  do:    correct the text there (python3 -m json.tool FILE checks it)");
    EXPECT_EQ(refusal_of("{\"a\": 1}}"),
              "not valid JSON: syntax error while parsing value - unexpected '}'; expected end of "
              "input\n  where: config.json, column 9\n"
              "  do:    correct the text there (python3 -m json.tool FILE checks it)");
}

struct Broken {
    const char* name;
    std::string text;
};

class BrokenJson : public testing::TestWithParam<Broken> {};

TEST_P(BrokenJson, IsRefused) {
    const std::string message = refusal_of(GetParam().text);
    EXPECT_TRUE(message.starts_with("not valid JSON: ")) << message;
    EXPECT_NE(message.find("\n  where: config.json, "), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Texts, BrokenJson,
    testing::Values(Broken{"empty", ""}, Broken{"blank", "  \n"},
                    Broken{"cut_off", "{\"a\": [1, 2"}, Broken{"trailing_text", "{} x"},
                    Broken{"trailing_comma", "[1,]"}, Broken{"comment", "{} // x"},
                    Broken{"nan", "NaN"}, Broken{"infinity", "-Infinity"},
                    Broken{"overflow", "1e999"}, Broken{"leading_zero", "01"},
                    Broken{"single_quotes", "{'a': 1}"}, Broken{"bad_escape", "\"\\x\""},
                    Broken{"control_character", std::string("\"a\nb\"")},
                    Broken{"lone_surrogate", "\"\\ud800\""}, Broken{"bad_utf8", "\"\xff\""},
                    Broken{"overlong_utf8", "\"\xc0\x80\""},
                    Broken{"utf8_surrogate", "\"\xed\xa0\x80\""},
                    Broken{"cut_utf8", "\"\xe2\x82\""}, Broken{"bad_utf8_outside", "{\xff}"},
                    Broken{"nul", std::string("[1]\0", 4)}),
    [](const auto& broken) { return std::string(broken.param.name); });

TEST(Json, MessagesOfBadUtf8AreUtf8Themselves) {
    const std::string message = refusal_of("{\"a\": \"\xff\"}");
    EXPECT_EQ(message.find('\xff'), std::string::npos) << message;
}

TEST(Json, ExcerptsAreShortAndKeepCharactersWhole) {
    EXPECT_EQ(parse("[1, {\"a\": \"b\"}]").excerpt(), "[1,{\"a\":\"b\"}]");
    std::string text = "\"a";
    for (int i = 0; i < 100; ++i) text += "\xc3\xa9";
    const std::string excerpt = parse(text + "\"").excerpt();
    EXPECT_LE(excerpt.size(), 80U);
    EXPECT_TRUE(excerpt.ends_with("\xc3\xa9...")) << excerpt;
    std::string many = "[1";
    for (int i = 0; i < 100'000; ++i) many += ",1";
    EXPECT_EQ(parse(many + "]").excerpt().size(), 80U);
}

TEST(Json, DumpsWhatItRead) {
    const std::string text = R"({"b":1,"a":[true,null,"x\"y",0.1,-5],"c":{}})";
    EXPECT_EQ(parse(text).dump(), text);
    EXPECT_EQ(parse("{\"a\":[1]}").dump(2), "{\n  \"a\": [\n    1\n  ]\n}");
}

TEST(Json, ReadsAFileAndNamesIt) {
    const auto path = test::fresh_folder("json") / "config.json";
    std::ofstream(path) << R"({"a": "x"})";
    EXPECT_EQ(refusal([&] { Json::parse_file(path)["a"].as_int(); }),
              "expected an integer, found a string: \"x\"\n  where: " + path.string() +
                  ", field a\n  do:    give an integer there");
    EXPECT_EQ(refusal([&] { Json::parse_file(path.parent_path() / "absent.json"); }),
              "cannot read the file: No such file or directory\n  where: " +
                  (path.parent_path() / "absent.json").string() +
                  "\n  do:    check the spelling of the path");
}

TEST(Json, ManyMembersAreFoundByKey) {
    std::string text = "{";
    for (int i = 0; i < 100'000; ++i) {
        text += (i == 0 ? "" : ",") + std::string("\"k") + std::to_string(i) +
                "\":" + std::to_string(i);
    }
    const Json json = parse(text + "}");
    ASSERT_EQ(json.size(), 100'000U);
    for (int i = 0; i < 100'000; i += 7) ASSERT_EQ(json["k" + std::to_string(i)].as_int(), i);
    EXPECT_EQ(json.keys()[99'999], "k99999");
    EXPECT_EQ(Json::parse(json.dump(), "again").size(), 100'000U);
}

}  // namespace
}  // namespace fedit
