// tests/text/rouge_test.cpp: ROUGE equals the package rouge-score, and cases a reader can
// recompute.
#include "fedit/text/rouge.h"

#include <gtest/gtest.h>

#include <fstream>

#include "fedit/io/json.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

TEST(RougeFixture, EqualsRougeScore) {
    const auto path = test::shared_path("fixtures/rouge.jsonl");
    FEDIT_REQUIRE_SHARED(path);
    std::ifstream in(path);
    int pairs = 0;
    for (std::string line; std::getline(in, line); ++pairs) {
        const Json want = Json::parse(line, "rouge.jsonl");
        const Rouge got = rouge(want["reference"].as_string(), want["candidate"].as_string());
        EXPECT_NEAR(got.rouge1, want["rouge1"].as_double(), 1e-12) << "pair " << pairs;
        EXPECT_NEAR(got.rouge2, want["rouge2"].as_double(), 1e-12) << "pair " << pairs;
        EXPECT_NEAR(got.rougeL, want["rougeL"].as_double(), 1e-12) << "pair " << pairs;
        EXPECT_NEAR(got.rougeLsum, want["rougeLsum"].as_double(), 1e-12) << "pair " << pairs;
    }
    EXPECT_GT(pairs, 100);
}

TEST(Rouge, CountsARepeatedWordAsOftenAsBothHaveIt) {
    const Rouge got = rouge("a a b", "a a a c");
    EXPECT_DOUBLE_EQ(got.rouge1, 2 * (2.0 / 3) * (2.0 / 4) / (2.0 / 3 + 2.0 / 4));
    EXPECT_DOUBLE_EQ(got.rouge2, 2 * (1.0 / 2) * (1.0 / 3) / (1.0 / 2 + 1.0 / 3));
}

TEST(Rouge, OfLinesIsAUnionAndOfTheWholeASubsequence) {
    const Rouge got = rouge("one two\nthree four", "three four\none two");
    EXPECT_DOUBLE_EQ(got.rougeL, 0.5);
    EXPECT_DOUBLE_EQ(got.rougeLsum, 1);
}

TEST(Rouge, LowersTheTwoForeignLettersThatHaveAnAsciiLowerCase) {
    EXPECT_EQ(rouge("5 \u212A", "5 k").rouge1, 1);
    EXPECT_EQ(rouge("\u0130z", "i z").rouge1, 1) << "i, a combining dot that separates, z";
}

TEST(Rouge, OfTextsWithoutAWordIsZero) {
    for (const auto& [reference, candidate] :
         {std::pair{"", ""}, std::pair{"\u00e9 !", "\u00e9 !"}, std::pair{"\n\n", "a"}}) {
        const Rouge got = rouge(reference, candidate);
        EXPECT_EQ(got.rouge1 + got.rouge2 + got.rougeL + got.rougeLsum, 0);
    }
}

}  // namespace
}  // namespace fedit
