// tests/text/text_support.h: files, small tokenizers and error messages for the tests of text.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/core/error.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/json.h"
#include "tests/support/shared_data.h"

namespace fedit::test {

/// A new folder for the running test.
inline std::filesystem::path test_folder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    return fresh_folder(std::string(info->test_suite_name()) + "." + info->name());
}

inline std::filesystem::path write_file(const std::filesystem::path& path, std::string_view text) {
    std::ofstream(path, std::ios::binary) << text;
    return path;
}

/// The message of the InputError that `action` must throw.
template <typename Action>
std::string input_error(Action&& action) {
    try {
        action();
    } catch (const InputError& error) {
        return error.what();
    }
    ADD_FAILURE() << "no InputError was thrown";
    return "";
}

/// `message` must contain each of `parts`.
inline void expect_says(const std::string& message, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
        EXPECT_NE(message.find(part), std::string::npos)
            << "missing: " << part << "\nin: " << message;
    }
}

inline std::vector<Json> read_json_lines(const std::filesystem::path& path) {
    const std::string text = read_text_file(path);
    std::vector<Json> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(Json::parse(std::string_view(text).substr(begin, end - begin),
                                    path.string() + ", line " + std::to_string(lines.size() + 1)));
        begin = end + 1;
    }
    return lines;
}

inline std::vector<std::int32_t> as_ids(const Json& array) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < array.size(); ++i) {
        ids.push_back(static_cast<std::int32_t>(array[i].as_int()));
    }
    return ids;
}

/// A whole tokenizer.json that a reader can follow by hand. The bar "_" of the comments is U+2581.
inline constexpr std::string_view tiny_tokenizer = R"({
"added_tokens": [
  {"id": 0, "content": "<unk>", "special": true, "normalized": false},
  {"id": 1, "content": "<s>", "special": true, "normalized": false},
  {"id": 2, "content": "</s>", "special": true, "normalized": false},
  {"id": 11, "content": "<x>", "special": false, "normalized": false},
  {"id": 12, "content": "<x>y", "special": false, "normalized": false}],
"normalizer": {"type": "Sequence", "normalizers": [
  {"type": "Prepend", "prepend": "▁"},
  {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
"pre_tokenizer": null,
"post_processor": {"type": "TemplateProcessing",
  "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
  "special_tokens": {"<s>": {"ids": [1]}}},
"decoder": {"type": "Sequence", "decoders": [
  {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
  {"type": "ByteFallback"}, {"type": "Fuse"},
  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
"model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
  "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "b": 5, "ab": 6, "▁a": 7, "▁ab": 8,
            "<0xC3>": 9, "<0xA9>": 10},
  "merges": ["a b", ["▁", "ab"], "▁ a"]}})";

/// One change of a text: `from`, which must occur, becomes `to`.
struct Change {
    std::string from, to;
};

inline std::string changed(std::string_view text, const std::vector<Change>& changes) {
    std::string result(text);
    for (const Change& change : changes) {
        const std::size_t at = result.find(change.from);
        if (at == std::string::npos) {
            ADD_FAILURE() << "not in the text: " << change.from;
            continue;
        }
        result.replace(at, change.from.size(), change.to);
    }
    return result;
}

/// A folder with the tiny tokenizer after `changes`.
inline std::filesystem::path tiny_folder(const std::vector<Change>& changes = {}) {
    const std::filesystem::path folder = test_folder();
    write_file(folder / "tokenizer.json", changed(tiny_tokenizer, changes));
    return folder;
}

/// A folder with the fixture tokenizer `name` (gpt2, llama2, llama3, qwen2) and its BOS and EOS.
inline std::filesystem::path family_folder(const std::string& name) {
    const std::filesystem::path folder = test_folder();
    std::filesystem::copy_file(shared_path("fixtures/tokenizers/" + name + ".tokenizer.json"),
                               folder / "tokenizer.json");
    const char* config =
        name == "llama2"   ? R"({"bos_token": "<s>", "eos_token": "</s>"})"
        : name == "llama3" ? R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})"
                           : R"({"bos_token": null, "eos_token": "<|endoftext|>"})";
    write_file(folder / "tokenizer_config.json", config);
    return folder;
}

/// A folder with LLaMA-2's SentencePiece model alone.
inline std::filesystem::path llama2_model_folder() {
    const std::filesystem::path folder = test_folder();
    std::filesystem::copy_file(shared_path("data/tokenizers/llama2.tokenizer.model"),
                               folder / "tokenizer.model");
    return folder;
}

}  // namespace fedit::test
