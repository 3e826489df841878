// tests/app/run_fedit.cpp: starts the program with its output in files, so that no pipe can fill.
#include "tests/app/run_fedit.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fedit/io/atomic_file.h"
#include "fedit/io/json.h"
#include "fedit/model/hf_folder.h"
#include "tests/support/shared_data.h"

namespace fedit::test {
namespace {

namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

/// The environment of a child: this process's, without what a launcher left, plus `extra`.
std::vector<std::string> child_environment(const std::map<std::string, std::string>& extra) {
    std::vector<std::string> variables;
    for (char** each = environ; *each != nullptr; ++each) {
        const std::string_view variable = *each;
        const std::string name(variable.substr(0, variable.find('=')));
        if (!name.starts_with("SLURM_") && extra.count(name) == 0) variables.emplace_back(variable);
    }
    for (const auto& [name, value] : extra) variables.push_back(name + "=" + value);
    return variables;
}

/// The program of this build, or the one that was carried to another machine with the test.
std::string program() {
    const char* elsewhere = std::getenv("FEDIT_PROGRAM");
    return elsewhere != nullptr ? elsewhere : FEDIT_PROGRAM;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> all;
    for (std::string& text : texts) all.push_back(text.data());
    all.push_back(nullptr);
    return all;
}

}  // namespace

Outcome run(const Start& start) {
    const fs::path folder = fresh_folder("streams");
    const std::string in = write_text(folder / "in", start.input);
    const std::string out = start.out.empty() ? (folder / "out").string() : start.out;
    const std::string err = (folder / "err").string();
    std::vector<std::string> words{start.program.empty() ? program() : start.program};
    words.insert(words.end(), start.arguments.begin(), start.arguments.end());
    std::vector<std::string> variables = child_environment(start.environment);

    posix_spawn_file_actions_t streams;
    posix_spawn_file_actions_init(&streams);
    posix_spawn_file_actions_addopen(&streams, STDIN_FILENO, in.c_str(), O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&streams, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT,
                                     0644);
    posix_spawn_file_actions_addopen(&streams, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT,
                                     0644);
    pid_t child = 0;
    const int failed = posix_spawn(&child, words.front().c_str(), &streams, nullptr,
                                   pointers(words).data(), pointers(variables).data());
    posix_spawn_file_actions_destroy(&streams);
    if (failed != 0) return {.code = -1, .out = "", .err = "cannot start " + words.front()};
    int status = 0;
    waitpid(child, &status, 0);
    return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            .out = start.out.empty() ? slurp(out) : "",
            .err = slurp(err)};
}

Outcome run_fedit(const std::vector<std::string>& arguments) {
    return run({.arguments = arguments, .environment = {}, .input = "", .out = "", .program = ""});
}

std::string device() {
    const char* asked = std::getenv("FEDIT_TEST_DEVICE");
    return asked != nullptr ? asked : "cpu";
}

testing::AssertionResult says(std::string_view text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
        if (text.find(part) == std::string_view::npos) {
            return testing::AssertionFailure() << "\"" << part << "\" is not in:\n" << text;
        }
    }
    return testing::AssertionSuccess();
}

fs::path test_folder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(info->test_suite_name()) + "." + info->name();
    std::replace(name.begin(), name.end(), '/', '.');
    return fresh_folder(name);
}

std::string write_text(const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
}

std::string tiny_config(const std::string& extra) {
    return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
 "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
 "num_key_value_heads": 1, "vocab_size": 40, "max_position_embeddings": 64, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "initializer_range": 0.3, "tie_word_embeddings": false)" +
           extra + "}";
}

std::string write_tiny_model(const fs::path& folder, const std::string& extra) {
    write_text(folder / "config.json", tiny_config(extra));
    const ModelConfig model = parse_model_config(Json::parse(tiny_config(), "config.json"));
    AtomicFile().write(folder / "model.safetensors",
                       std::span<const std::byte>(make_random_weights(model, 3)));
    return folder.string();
}

std::string tokenised_records(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
        const int a = 3 + i % 7, b = 10 + i % 11, c = 20 + i % 13;
        std::ostringstream line;
        line << R"({"input_ids": [1, )" << a << ", " << b << ", " << c << R"(], "labels": [-100, )"
             << "-100, " << b << ", " << c << R"(], "category": ")" << (i % 2 == 0 ? "even" : "odd")
             << "\"}\n";
        text += line.str();
    }
    return text;
}

}  // namespace fedit::test
