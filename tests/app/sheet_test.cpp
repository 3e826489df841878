// tests/app/sheet_test.cpp: facts and tables, as text and as JSON.
#include "app/sheet.h"

#include <gtest/gtest.h>

#include <limits>

#include "fedit/io/json.h"

namespace fedit {
namespace {

Sheet example() {
    Sheet sheet;
    sheet.fact("kind", "run");
    sheet.fact("seed", std::int64_t{7});
    sheet.fact("targets", std::vector<std::string>{"q", "k"});
    sheet.table("rounds", {"name", "loss"},
                {{"first", 1.5}, {"b", std::numeric_limits<double>::quiet_NaN()}});
    return sheet;
}

TEST(Sheet, AlignsTextLeftAndNumbersRight) {
    EXPECT_EQ(example().text(),
              "kind     run\n"
              "seed     7\n"
              "targets  q, k\n"
              "\n"
              "rounds\n"
              "  name   loss\n"
              "  first   1.5\n"
              "  b         -\n");
}

TEST(Sheet, IsOneJsonObjectWithNullForWhatIsNotKnown) {
    const Json json = Json::parse(example().json(), "sheet");
    EXPECT_EQ(json["kind"].as_string(), "run");
    EXPECT_EQ(json["seed"].as_int(), 7);
    EXPECT_EQ(json["targets"][1].as_string(), "k");
    EXPECT_EQ(json["rounds"][0]["loss"].as_double(), 1.5);
    EXPECT_TRUE(json["rounds"][1]["loss"].is_null());
}

}  // namespace
}  // namespace fedit
