// tests/core/similar_test.cpp: what is suggested for a misspelt name.
#include "fedit/core/similar.h"

#include <gtest/gtest.h>

namespace fedit {
namespace {

using Names = std::vector<std::string>;

TEST(SimilarNames, AreNearestFirst) {
    const Names known{"rounds", "batch-size", "round-size", "micro-batch-size"};
    EXPECT_EQ(similar_names("batch-sise", known), Names{"batch-size"});
    EXPECT_EQ(similar_names("bound-size", known), (Names{"round-size"}));
    EXPECT_EQ(similar_names("xyz", known), Names{});
}

TEST(SimilarNames, KeepTheOrderOfEqualDistancesAndTheCount) {
    const Names known{"la", "lb", "lc", "ld"};
    EXPECT_EQ(similar_names("l", known), (Names{"la", "lb", "lc"}));
    EXPECT_EQ(similar_names("l", known, 1), Names{"la"});
}

TEST(SimilarNames, WorkOnEmptyInput) {
    EXPECT_EQ(similar_names("", Names{}), Names{});
    EXPECT_EQ(similar_names("", Names{"a", "long"}), Names{"a"});
}

TEST(Join, PutsSeparatorsBetween) {
    EXPECT_EQ(join(Names{}), "");
    EXPECT_EQ(join(Names{"a"}), "a");
    EXPECT_EQ(join(Names{"a", "b"}), "a, b");
    EXPECT_EQ(join(Names{"a", "b"}, "/"), "a/b");
}

}  // namespace
}  // namespace fedit
