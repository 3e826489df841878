// tests/text/records_test.cpp: record files and client folders, whole and faulty.
#include "fedit/text/dataset.h"
#include "tests/text/text_support.h"

namespace fedit {
namespace {

using Ids = std::vector<std::int32_t>;

std::filesystem::path record_file(std::string_view text) {
    return test::write_file(test::test_folder() / "records.json", text);
}

std::string error_of(std::string_view text) {
    const auto path = record_file(text);
    const std::string message = test::input_error([&] { read_records(path); });
    test::expect_says(message, {path.string()});
    return message;
}

TEST(Records, ReadsAnArrayWithEitherNames) {
    const auto records = read_records(record_file(R"([
        {"instruction": "i", "input": "n", "output": "o"},
        {"instruction": "j", "context": "c", "response": "r", "category": "qa", "more": 1},
        {"instruction": "k", "input": null, "context": "c", "response": ""}])"));
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[0].input, "n");
    EXPECT_EQ(records[0].response, "o");
    EXPECT_EQ(records[0].category, "");
    EXPECT_EQ(records[1].instruction, "j");
    EXPECT_EQ(records[1].input, "c");
    EXPECT_EQ(records[1].response, "r");
    EXPECT_EQ(records[1].category, "qa");
    EXPECT_EQ(records[2].input, "c");
    EXPECT_EQ(records[2].response, "");
    EXPECT_FALSE(records[0].tokenised());
}

TEST(Records, ReadsJsonLinesWithByteOrderMarkBlankLinesAndCarriageReturns) {
    const auto records =
        read_records(record_file("\xEF\xBB\xBF\r\n"
                                 "{\"instruction\": \"a\", \"output\": \"\\u00e9\"}\r\n"
                                 " \t\n"
                                 "{\"instruction\": \"b\", \"output\": \"2\"}"));
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].response, "\u00e9");
    EXPECT_EQ(records[1].instruction, "b");
}

TEST(Records, ReadsChoicesWithTheAnswersIndexOrText) {
    const auto records = read_records(record_file(R"(
        {"instruction": "i", "choices": ["a", "b", "c"], "answer": 2}
        {"instruction": "i", "choices": ["a", "b"], "answer": "a", "response": "r"}
        {"instruction": "i", "choices": null, "answer": 7, "response": "r"})"));
    ASSERT_EQ(records.size(), 3U);
    EXPECT_EQ(records[0].choices, (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(records[0].answer, 2U);
    EXPECT_EQ(records[0].response, "c");
    EXPECT_EQ(records[1].answer, 0U);
    EXPECT_EQ(records[1].response, "r");
    EXPECT_TRUE(records[2].choices.empty());
}

TEST(Records, TellsFaultyChoicesAndAnswers) {
    const std::string message = error_of(R"(
        {"instruction": "i", "choices": [], "answer": 0}
        {"instruction": "i", "choices": ["a"], "answer": 0}
        {"instruction": "i", "choices": ["a", 1], "answer": 0}
        {"instruction": "i", "choices": "a or b", "answer": 0}
        {"instruction": "i", "choices": ["a", "b"]}
        {"instruction": "i", "choices": ["a", "b"], "answer": 2}
        {"instruction": "i", "choices": ["a", "b"], "answer": -1}
        {"instruction": "i", "choices": ["a", "b"], "answer": "A"}
        {"instruction": "i", "choices": ["a", "b"], "answer": 0.5})");
    test::expect_says(
        message, {"line 2, field choices", "[] is no list of at least two texts",
                  "line 3, field choices", "line 4, field choices",
                  "line 5, field "
                  "choices",
                  "line 6, field answer", "choices, but no answer", "line 7, field answer",
                  "2 is none of the choices", "from 0 to 1, or its text", "line 8, field answer",
                  "line 9, field answer", "\"A\" is none of the choices", "line 10, field answer"});
    EXPECT_EQ(message.find("has no response"), std::string::npos);
}

TEST(Records, ReadsTokenisedRecordsBesideTexts) {
    const auto records = read_records(record_file(R"(
        {"input_ids": [5, 6, 7], "labels": [-100, 6, -100], "category": "c"}
        {"input_ids": [5, 6, 7], "first_label": 2}
        {"input_ids": [5], "first_label": 1}
        {"instruction": "i", "output": "o"})"));
    ASSERT_EQ(records.size(), 4U);
    EXPECT_EQ(records[0].input_ids, (Ids{5, 6, 7}));
    EXPECT_EQ(records[0].labels, (Ids{-1, 6, -1}));
    EXPECT_EQ(records[0].category, "c");
    EXPECT_EQ(records[1].labels, (Ids{-1, -1, 7}));
    EXPECT_EQ(records[2].labels, (Ids{-1}));
    EXPECT_TRUE(records[2].tokenised());
    EXPECT_FALSE(records[3].tokenised());
}

TEST(Records, ReadsPlainText) {
    const auto records = read_records(record_file(R"({"text": "once", "category": "story"})"));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].response, "once");
    EXPECT_EQ(records[0].category, "story");
    EXPECT_TRUE(records[0].is_plain_text);
    test::expect_says(error_of(R"({"text": "once", "instruction": "a"})"),
                      {"field instruction", "beside text"});
    test::expect_says(error_of(R"({"text": 3})"), {"field text", "3 is not text"});
}

TEST(RecordErrors, FilesWithoutRecords) {
    for (const char* text : {"", " \n\r\n", "[]", "\xEF\xBB\xBF"}) {
        test::expect_says(error_of(text), {"there are no records"});
    }
}

TEST(RecordErrors, NameTheLineOrTheElement) {
    test::expect_says(
        error_of("{\"instruction\": \"a\", \"output\": \"b\"}\n\n{\"output\": \"b\"}\n"),
        {"the record has no instruction", "line 3, field instruction"});
    test::expect_says(error_of(R"([{"instruction": "a", "output": "b"}, {"instruction": "a"}])"),
                      {"the record has no response", "element 1 (the first is 0), field response",
                       "give response or output"});
    test::expect_says(error_of(R"([7])"), {"must be a JSON object, found 7", "element 0"});
    test::expect_says(error_of("{\"instruction\": \"a\", \"output\": \"b\"\n"),
                      {"not valid JSON", "line 1"});
    test::expect_says(error_of("[{\"instruction\": \"a\", \"output\": \"b\"}"), {"not valid JSON"});
}

TEST(RecordErrors, NameFieldsThatAreNoText) {
    test::expect_says(error_of(R"({"instruction": 3, "output": "b"})"),
                      {"3 is not text", "line 1, field instruction"});
    test::expect_says(error_of(R"({"instruction": "a", "output": ["b"]})"),
                      {"[\"b\"] is not text", "field output"});
    test::expect_says(error_of(R"({"instruction": "a", "output": "b", "category": 1})"),
                      {"1 is not text", "field category"});
    test::expect_says(error_of(R"({"instruction": "a", "response": null})"),
                      {"the record has no response"});
}

TEST(RecordErrors, TwoNamesThatDisagree) {
    test::expect_says(error_of(R"({"instruction": "a", "output": "b", "response": "c"})"),
                      {"field response", "differs from field output"});
    test::expect_says(
        error_of(R"({"instruction": "a", "output": "b", "input": "1", "context": "2"})"),
        {"field context", "differs from field input"});
}

TEST(RecordErrors, BytesThatAreNotUtf8) {
    test::expect_says(error_of("{\"instruction\": \"a\xFF\", \"output\": \"b\"}\n"), {"line 1"});
    test::expect_says(error_of("[{\"instruction\": \"a\xFF\", \"output\": \"b\"}]"), {"UTF-8"});
}

TEST(RecordErrors, TokenisedRecordsThatDoNotHold) {
    test::expect_says(error_of(R"({"input_ids": [1, 2], "labels": [1]})"),
                      {"1 labels for 2 input_ids", "field labels"});
    test::expect_says(error_of(R"({"input_ids": [1, -2], "first_label": 0})"),
                      {"-2 is no token id", "field input_ids[1]"});
    test::expect_says(error_of(R"({"input_ids": [1], "labels": [-1]})"),
                      {"-1 is no token id", "field labels[0]", "-100 for none"});
    test::expect_says(error_of(R"({"input_ids": [1, 2], "first_label": 3})"),
                      {"3 is no place in the record", "field first_label", "from 0 to 2"});
    test::expect_says(error_of(R"({"input_ids": [1]})"), {"no labels", "field labels"});
    test::expect_says(error_of(R"({"input_ids": [1], "labels": [1], "first_label": 0})"),
                      {"exclude each other"});
    test::expect_says(error_of(R"({"input_ids": [], "labels": []})"), {"no tokens"});
    test::expect_says(error_of(R"({"input_ids": "1 2", "labels": []})"), {"is not an array"});
    test::expect_says(error_of(R"({"input_ids": [4294967296], "first_label": 0})"),
                      {"4294967296 is no token id"});
}

TEST(RecordErrors, TellAllFaultsUpToTwentyAndCountTheRest) {
    std::string text;
    for (int line = 1; line <= 25; ++line) text += "{\"instruction\": \"a\"}\n";
    const std::string message = error_of(text);
    test::expect_says(message, {"line 1, field", "line 20, field", "and 5 more faults"});
    EXPECT_EQ(message.find("line 21,"), std::string::npos);
}

TEST(RecordErrors, AMissingFile) {
    EXPECT_THROW(read_records("no_such_records.json"), Error);
}

class Clients : public testing::Test {
protected:
    void add(const std::string& name,
             std::string_view text = R"([{"instruction": "a", "output": "b"}])") {
        test::write_file(folder_ / name, text);
    }
    std::string error_of(int num_clients) {
        return test::input_error([&] { read_client_folder(folder_, num_clients); });
    }
    std::filesystem::path folder_ = test::test_folder();
};

TEST_F(Clients, AreReadInOrderOfTheirNumbers) {
    for (int k = 0; k < 11; ++k) {
        add("local_training_" + std::to_string(k) + ".json",
            R"([{"instruction": ")" + std::to_string(k) + R"(", "output": "b"}])");
    }
    add("local_training_x.json", "not read");
    add("local_training_03.json", "not read");
    const ClientFolder all = read_client_folder(folder_, -1);
    ASSERT_EQ(all.clients.size(), 11U);
    for (std::size_t k = 0; k < 11; ++k) {
        EXPECT_EQ(all.clients[k].at(0).instruction, std::to_string(k));
    }
    EXPECT_TRUE(all.test.empty());
    add("global_test.json");
    const ClientFolder some = read_client_folder(folder_, 3);
    EXPECT_EQ(some.clients.size(), 3U);
    EXPECT_EQ(some.test.size(), 1U);
}

TEST_F(Clients, NamesGapsAndTooFewFiles) {
    add("local_training_0.json");
    add("local_training_3.json");
    test::expect_says(error_of(-1), {"local_training_1.json is missing",
                                     "local_training_2.json is missing", folder_.string()});
    test::expect_says(error_of(5),
                      {"local_training_4.json is missing", "5 clients were asked for"});
    test::expect_says(error_of(0), {"0 clients were asked for"});
}

TEST_F(Clients, NamesAFolderWithoutFilesAndAFolderThatIsNone) {
    test::expect_says(error_of(-1), {"there is no client file", "local_training_0.json"});
    test::expect_says(test::input_error([&] { read_client_folder(folder_ / "none", -1); }),
                      {"this is no folder", (folder_ / "none").string()});
}

TEST_F(Clients, TellsTheFaultsOfAllFilesAtOnce) {
    add("local_training_0.json", R"([{"instruction": "a"}])");
    add("local_training_1.json", "");
    test::expect_says(error_of(-1), {"local_training_0.json, element 0", "local_training_1.json",
                                     "there are no records"});
}

TEST_F(Clients, WhoseArrayIsEmptyHaveNoRecords) {
    add("local_training_0.json", R"([{"instruction": "a", "output": "b"}])");
    add("local_training_1.json", " [] ");
    const ClientFolder folder = read_client_folder(folder_, -1);
    ASSERT_EQ(folder.clients.size(), 2U);
    EXPECT_EQ(folder.clients[0].size(), 1U);
    EXPECT_TRUE(folder.clients[1].empty());
    add("global_test.json", "[]");
    test::expect_says(error_of(-1), {"global_test.json", "there are no records"});
}

TEST(SharedRecords, DollyAndItsClients) {
    const auto dolly = test::shared_path("data/dolly-15k/databricks-dolly-15k.jsonl");
    FEDIT_REQUIRE_SHARED(dolly);
    EXPECT_EQ(read_records(dolly).size(), 15'011U);
    const ClientFolder folder =
        read_client_folder(test::shared_path("data/dolly-15k/clients-10"), -1);
    ASSERT_EQ(folder.clients.size(), 10U);
    std::size_t records = 0;
    for (const auto& client : folder.clients) records += client.size();
    EXPECT_EQ(records, 14'931U);
    EXPECT_EQ(folder.test.size(), 80U);
}

}  // namespace
}  // namespace fedit
