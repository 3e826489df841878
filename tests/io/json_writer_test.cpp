// tests/io/json_writer_test.cpp: what is written reads back exactly.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fedit/io/json.h"

namespace fedit {
namespace {

TEST(JsonWriter, CopiesValuesThatWereRead) {
    const Json read = Json::parse(R"({"b": 1e-05, "a": [1, {"x": null}], "c": "\u00fc"})", "here");
    JsonWriter json;
    for (const std::string& key : read.keys()) json.set(key, read[key]);
    EXPECT_EQ(Json::parse(json.text(), "copy").dump(), read.dump());
}

TEST(JsonWriter, WritesEveryKindOfValueInOrder) {
    JsonWriter inner;
    inner.set("loss", 0.5);
    JsonWriter other;
    other.set("loss", 1.0);
    std::vector<JsonWriter> list;
    list.push_back(std::move(other));
    JsonWriter json;
    json.set("z", "text")
        .set("a", std::int64_t{1} << 40)
        .set("i", -1)
        .set("flag", true)
        .set("names", std::vector<std::string>{"q", "k"})
        .set("ids", std::vector<std::int32_t>{1, 2})
        .set("inner", inner)
        .set("list", list)
        .set_null("none");
    EXPECT_EQ(json.text(),
              R"({"z":"text","a":1099511627776,"i":-1,"flag":true,"names":["q","k"],"ids":[1,2],)"
              R"("inner":{"loss":0.5},"list":[{"loss":1.0}],"none":null})");
}

TEST(JsonWriter, IsAnEmptyObjectAtFirstAndIndents) {
    EXPECT_EQ(JsonWriter().text(), "{}");
    JsonWriter json;
    json.set("a", 1);
    EXPECT_EQ(json.text(2), "{\n  \"a\": 1\n}");
}

TEST(JsonWriter, SettingAKeyAgainReplacesItsValue) {
    JsonWriter json;
    json.set("a", 1).set("b", 2).set("a", 3);
    EXPECT_EQ(json.text(), R"({"a":3,"b":2})");
}

TEST(JsonWriter, NumbersReadBackExactly) {
    for (const double value : {0.1, 1.0 / 3, 1e-310, 6.02214076e23, -0.0, 2.0, 1e15 + 0.3,
                               std::numeric_limits<double>::max()}) {
        JsonWriter json;
        json.set("x", value);
        const double back = Json::parse(json.text(), "test")["x"].as_double();
        EXPECT_EQ(back, value) << json.text();
        EXPECT_EQ(std::signbit(back), std::signbit(value));
    }
}

TEST(JsonWriter, WhatJsonLacksBecomesNull) {
    JsonWriter json;
    json.set("a", std::nan("")).set("b", std::numeric_limits<double>::infinity());
    EXPECT_EQ(json.text(), R"({"a":null,"b":null})");
}

TEST(JsonWriter, TextIsEscapedAndBadUtf8Replaced) {
    JsonWriter json;
    json.set("a", "q\"\\\n\x01").set("b", "x\xffy");
    EXPECT_EQ(json.text(), "{\"a\":\"q\\\"\\\\\\n\\u0001\",\"b\":\"x\xef\xbf\xbdy\"}");
}

}  // namespace
}  // namespace fedit
