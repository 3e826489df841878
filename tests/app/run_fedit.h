// tests/app/run_fedit.h: runs the built program as a user would, and the small inputs it is given.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace fedit::test {

/// What one run of the program left.
struct Outcome {
    int code = -1;  ///< exit code, or 128 + signal
    std::string out, err;
};

/// How a program is started.
struct Start {
    std::vector<std::string> arguments;
    std::map<std::string, std::string> environment;  ///< besides this process's
    std::string input;                               ///< on standard input
    std::string out;      ///< a file for standard output; empty: into Outcome
    std::string program;  ///< empty: fedit
};

/// Starts the program and waits for its end.
Outcome run(const Start& start);
Outcome run_fedit(const std::vector<std::string>& arguments);

/// What --device the tests that train are given: cpu, or what FEDIT_TEST_DEVICE names.
std::string device();

/// `text` has each of `parts`.
testing::AssertionResult says(std::string_view text, const std::vector<std::string>& parts);

/// A new folder of the running test.
std::filesystem::path test_folder();

/// Writes `text` as it stands; gives the path as text.
std::string write_text(const std::filesystem::path& path, std::string_view text);

/// A LLaMA config.json of a few thousand weights; `extra` goes before the end: `, "field": value`.
std::string tiny_config(const std::string& extra = "");

/// A model folder with random weights, made in this process.
std::string write_tiny_model(const std::filesystem::path& folder, const std::string& extra = "");

/// `count` records that are tokenised already, in the tiny model's vocabulary, as JSON lines.
std::string tokenised_records(int count);

}  // namespace fedit::test
