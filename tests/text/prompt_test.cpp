// tests/text/prompt_test.cpp: what templates become, and which are refused.
#include "fedit/text/prompt.h"

#include "tests/text/text_support.h"

namespace fedit {
namespace {

constexpr std::string_view small_template = R"({
    "prompt_input": "Do {instruction} with {input}:\n",
    "prompt_no_input": "Do {instruction}:\n",
    "response_split": ":"
})";

std::filesystem::path template_file(const std::vector<test::Change>& changes = {}) {
    return test::write_file(test::test_folder() / "prompt.json",
                            test::changed(small_template, changes));
}

std::string error_of(const std::vector<test::Change>& changes) {
    const auto path = template_file(changes);
    return test::input_error([&] { PromptTemplate::load(path); });
}

TEST(Prompt, TakesTheFormWithInputWhenThereIsOne) {
    const PromptTemplate prompt = PromptTemplate::load(template_file());
    EXPECT_EQ(prompt.prompt("this", ""), "Do this:\n");
    EXPECT_EQ(prompt.prompt("this", "that"), "Do this with that:\n");
    EXPECT_EQ(prompt.prompt("this", " "), "Do this with  :\n");
    EXPECT_EQ(prompt.response_split(), ":");
}

TEST(Prompt, NeverSearchesARecordForPlaceholders) {
    const PromptTemplate prompt = PromptTemplate::load(template_file());
    EXPECT_EQ(prompt.prompt("{input}", "{instruction} {{"), "Do {input} with {instruction} {{:\n");
}

TEST(Prompt, ReadsDoubledBracesAndRepeatedPlaceholdersAsPythonDoes) {
    const PromptTemplate prompt = PromptTemplate::load(
        template_file({{"Do {instruction}:", "{{{instruction}}} {{}} {instruction}:"}}));
    EXPECT_EQ(prompt.prompt("x", ""), "{x} {} x:\n");
}

TEST(Prompt, FingerprintFollowsTheTextAlone) {
    const std::string one = PromptTemplate::load(template_file()).fingerprint();
    EXPECT_EQ(one.size(), 64U);
    EXPECT_EQ(
        one,
        PromptTemplate::load(template_file({{"{\n", "{\n\"description\": \"d\","}})).fingerprint());
    EXPECT_NE(one, PromptTemplate::load(template_file({{"Do", "Now do"}})).fingerprint());
}

TEST(Prompt, BuiltInHoldsInstructionInputAndEndsWhereTheResponseBegins) {
    const PromptTemplate prompt = PromptTemplate::built_in();
    const std::string text = prompt.prompt("INSTRUCTION", "INPUT");
    test::expect_says(text, {"INSTRUCTION", "INPUT"});
    EXPECT_TRUE(text.ends_with(prompt.response_split() + "\n"));
    EXPECT_TRUE(prompt.prompt("x", "").ends_with(prompt.response_split() + "\n"));
}

TEST(Prompt, ReadsTheTemplatesOfTheProject) {
    int count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator(test::source_path("data/templates"))) {
        EXPECT_NO_THROW(PromptTemplate::load(entry.path())) << entry.path();
        ++count;
    }
    EXPECT_GT(count, 0);
}

TEST(PromptErrors, MissingPlaceholders) {
    test::expect_says(error_of({{"Do {instruction}:", "Do it:"}}),
                      {"{instruction} is missing", "prompt.json, field prompt_no_input"});
    test::expect_says(error_of({{" with {input}", ""}}),
                      {"{input} is missing", "prompt.json, field prompt_input"});
}

TEST(PromptErrors, UnknownPlaceholders) {
    test::expect_says(error_of({{"{input}", "{input} {context}"}}),
                      {"{context} is not supported", "prompt.json, field prompt_input",
                       "{instruction} and {input}"});
    test::expect_says(error_of({{"Do {instruction}:", "Do {instruction} {input}:"}}),
                      {"{input} is not supported", "prompt.json, field prompt_no_input"});
}

TEST(PromptErrors, LoneBraces) {
    test::expect_says(error_of({{"Do {instruction}:", "Do {instruction} {:"}}),
                      {"brace \"{\" at byte 17", "field prompt_no_input"});
    test::expect_says(error_of({{"Do {instruction}:", "Do {instruction} }:"}}),
                      {"brace \"}\" at byte 17", "write {{ or }}"});
}

TEST(PromptErrors, AllMissingFieldsAtOnce) {
    const auto path = test::write_file(test::test_folder() / "prompt.json", "{}");
    test::expect_says(test::input_error([&] { PromptTemplate::load(path); }),
                      {"field prompt_input", "field prompt_no_input", "field response_split"});
}

TEST(PromptErrors, FieldsThatAreNoText) {
    test::expect_says(error_of({{"\":\"", "7"}}), {"field response_split", "7"});
}

}  // namespace
}  // namespace fedit
