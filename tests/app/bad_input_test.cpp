// tests/app/bad_input_test.cpp: what users get wrong, one named case each: the exit code, and a
// message that names the place, the value and the remedy.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "fedit/experiment/run_log.h"
#include "fedit/io/atomic_file.h"
#include "fedit/io/safetensors.h"
#include "tests/app/run_fedit.h"
#include "tests/support/shared_data.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;
using test::tiny_config;
using test::tokenised_records;
using test::write_text;
using test::write_tiny_model;
using Words = std::vector<std::string>;

/// What a case makes in its folder, and how the program is then started.
using Prepare = std::function<Words(const fs::path&)>;

struct BadInput {
    std::string name;
    int code = 2;
    Prepare prepare;
    std::vector<std::string> message;  ///< parts that standard error must have
};

std::string slurp(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

// ---- starts of the program

Words train(const std::string& model, const std::string& data, const fs::path& output,
            const Words& more = {}) {
    Words words{"train",    "--model",       model,      "--data",     data,
                "--output", output.string(), "--rounds", "1",          "--num-clients",
                "2",        "--threads",     "1",        "--progress", "none"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

Words evaluate(const std::string& model, const std::string& data, const Words& more = {}) {
    Words words{"evaluate", "--model", model, "--data", data, "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

/// Good records, and a model made by `spoil` from a good one.
Prepare bad_model(const std::function<void(const fs::path&)>& spoil) {
    return [spoil](const fs::path& folder) {
        const std::string model = write_tiny_model(folder / "model");
        spoil(model);
        return evaluate(model, write_text(folder / "records.jsonl", tokenised_records(4)));
    };
}

/// A good model whose config.json has these members besides.
Prepare bad_config(const std::string& extra) {
    return bad_model(
        [extra](const fs::path& model) { write_text(model / "config.json", tiny_config(extra)); });
}

/// A good model, and records as given.
Prepare bad_data(const std::string& text) {
    return [text](const fs::path& folder) {
        return evaluate(write_tiny_model(folder / "model"),
                        write_text(folder / "records.jsonl", text));
    };
}

Prepare bad_template(const std::string& text) {
    return [text](const fs::path& folder) {
        const std::string file = write_text(folder / "template.json", text);
        return evaluate(write_tiny_model(folder / "model"),
                        write_text(folder / "records.jsonl", tokenised_records(4)),
                        {"--prompt-template", file});
    };
}

Prepare words(const Words& given) {
    return [given](const fs::path&) { return given; };
}

/// `fedit train` with everything good but these words.
Prepare bad_training(const Words& more) {
    return [more](const fs::path& folder) {
        return train(write_tiny_model(folder / "model"),
                     write_text(folder / "records.jsonl", tokenised_records(8)), folder / "run",
                     more);
    };
}

Prepare bad_ini(const std::string& text) {
    return [text](const fs::path& folder) {
        return Words{"train", "--config", write_text(folder / "run.ini", text)};
    };
}

// ---- files that lie

/// Rewrites model.safetensors with its tensors changed by `change`; a tensor it empties is left
/// out.
void rewrite(const fs::path& model,
             const std::function<void(TensorToWrite&, std::vector<float>&)>& change) {
    const fs::path path = model / "model.safetensors";
    std::vector<TensorToWrite> tensors;
    std::vector<std::vector<float>> values;
    {
        const SafetensorsFile file(path);
        for (const auto& [name, stored] : file.tensors()) {
            tensors.push_back({name, StoredType::f32, stored.shape, {}});
            values.push_back(file.read_floats(name));
            change(tensors.back(), values.back());
            if (!values.back().empty()) continue;
            tensors.pop_back();
            values.pop_back();
        }
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        tensors[i].bytes = std::as_bytes(std::span(values[i]));
    }
    AtomicFile().write(path, std::span<const std::byte>(encode_safetensors(tensors)));
}

void truncate_weights(const fs::path& model) {
    const fs::path path = model / "model.safetensors";
    fs::resize_file(path, fs::file_size(path) / 2);
}

void lie_about_the_header(const fs::path& model) {
    std::string bytes = slurp(model / "model.safetensors");
    const std::uint64_t length = std::uint64_t{1} << 60;
    std::memcpy(bytes.data(), &length, sizeof(length));
    write_text(model / "model.safetensors", bytes);
}

void lose_a_shard(const fs::path& model) {
    fs::rename(model / "model.safetensors", model / "model-00001-of-00002.safetensors");
    write_text(model / "model.safetensors.index.json",
               R"({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors",
                   "lm_head.weight": "model-00002-of-00002.safetensors"}})");
}

void lose_a_tensor(const fs::path& model) {
    rewrite(model, [](TensorToWrite& tensor, std::vector<float>& values) {
        if (tensor.name == "model.norm.weight") values.clear();
    });
}

void misshape_a_tensor(const fs::path& model) {
    rewrite(model, [](TensorToWrite& tensor, std::vector<float>&) {
        if (tensor.name == "lm_head.weight") tensor.shape = {16, 40};
    });
}

void add_nan(const fs::path& model) {
    rewrite(model, [](TensorToWrite& tensor, std::vector<float>& values) {
        if (tensor.name == "model.layers.1.mlp.up_proj.weight") {
            values[5] = std::numeric_limits<float>::quiet_NaN();
        }
    });
}

void rename_a_tensor(const fs::path& model) {
    rewrite(model, [](TensorToWrite& tensor, std::vector<float>&) {
        if (tensor.name == "model.norm.weight") tensor.name = "model.norm.wieght";
    });
}

Words damaged_log(const fs::path& folder) {
    std::vector<std::byte> bytes = RunLog().encode();
    bytes[bytes.size() / 2] ^= std::byte{1};
    AtomicFile().write(folder / "run.h5", std::span<const std::byte>(bytes));
    return {"inspect", (folder / "run.h5").string()};
}

Words occupied_output(const fs::path& folder) {
    write_text(folder / "model" / "notes.txt", "mine");
    return {"init", "--model-config", write_text(folder / "config.json", tiny_config()), "--output",
            (folder / "model").string()};
}

// ---- the table

std::vector<BadInput> command_lines() {
    return {
        {"unknown_command",
         2,
         words({"trian"}),
         {"\"trian\"", "train, evaluate, tokenize", "fedit --help"}},
        {"unknown_option", 2, bad_training({"--lora-rr", "4"}), {"--lora-rr", "--lora-r?"}},
        {"abbreviated_option", 2, bad_training({"--learning", "1"}), {"--learning;", "in full"}},
        {"repeated_option", 2, bad_training({"--rounds", "2"}), {"--rounds is given twice"}},
        {"stray_word", 2, bad_training({"more"}), {"\"more\" is neither an option"}},
        {"option_without_value", 2, bad_training({"--seed"}), {"seed", "fedit train --help"}},
        {"option_of_another_command",
         2,
         words({"doctor", "--lora-r", "4"}),
         {"--lora-r is not an option of fedit doctor"}},
        {"missing_options", 2, words({"train"}), {"--model FOLDER", "--data PATH", "--output"}},
        {"cutoff_zero",
         2,
         bad_training({"--cutoff-len", "0"}),
         {"\"0\"", "--cutoff-len", "from 1"}},
        {"fractional_rank", 2, bad_training({"--lora-r", "1.5"}), {"\"1.5\"", "a whole number"}},
        {"learning_rate_nan", 2, bad_training({"--learning-rate", "nan"}), {"\"nan\"", "from 0"}},
        {"unknown_choice", 2, bad_training({"--optimizer", "adam"}), {"one of: adamw, sgd"}},
        {"micro_batch_above_batch",
         2,
         bad_training({"--batch-size", "4", "--micro-batch-size", "8"}),
         {"--micro-batch-size 8, --batch-size 4", "lower --micro-batch-size"}},
        {"unknown_target",
         2,
         bad_training({"--lora-target-modules", "qkv"}),
         {"no linear layer \"qkv\"", "q_proj", "all-linear"}},
        {"steps_and_epochs",
         2,
         bad_training({"--local-steps", "2", "--local-epochs", "2"}),
         {"--local-steps 2, --local-epochs 2", "give one"}},
        {"more_threads_than_cores", 2, bad_training({"--threads=4096"}), {"--threads"}},
        {"ini_absent", 2, words({"train", "--config", "no/such.ini"}), {"no/such.ini"}},
        {"ini_unknown_name", 2, bad_ini("lora_r = 4\n"), {"run.ini, line 1", "lora-r?"}},
        {"ini_repeated_name", 2, bad_ini("seed = 4\nseed = 4\n"), {"line 2", "set twice"}},
        {"ini_of_a_terminal",
         2,
         bad_ini("\x1b[2J\n"),
         {"\"\\x1b[2J\" is not a setting", "run.ini, line 1"}},
        {"ini_no_setting", 2, bad_ini("seed 4\n"), {"line 1", "name = value"}},
    };
}

std::vector<BadInput> models() {
    return {
        {"model_absent",
         2,
         [](const fs::path& folder) {
             return evaluate((folder / "none").string(),
                             write_text(folder / "records.jsonl", tokenised_records(4)));
         },
         {"none", "do:"}},
        {"config_no_json",
         2,
         bad_model(
             [](const fs::path& model) { write_text(model / "config.json", "{\"model_type\": "); }),
         {"config.json"}},
        {"unknown_architecture",
         2,
         bad_model([](const fs::path& model) {
             std::string text = tiny_config();
             text.replace(text.find("LlamaForCausalLM"), 16, "MambaForCausalLM");
             write_text(model / "config.json", text);
         }),
         {"config.json", "architectures", "MambaForCausalLM"}},
        {"unknown_rope",
         2,
         bad_config(R"(, "rope_scaling": {"rope_type": "longrope"})"),
         {"config.json", "rope_type", "longrope", "llama3"}},
        {"quantized_model",
         2,
         bad_config(R"(, "quantization_config": {"bits": 4})"),
         {"config.json", "quantization_config"}},
        {"sliding_window", 2, bad_config(R"(, "sliding_window": 8)"), {"sliding_window", "8"}},
        {"truncated_weights", 2, bad_model(truncate_weights), {"model.safetensors"}},
        {"lying_header", 2, bad_model(lie_about_the_header), {"model.safetensors"}},
        {"missing_shard", 2, bad_model(lose_a_shard), {"model-00002-of-00002.safetensors"}},
        {"missing_tensor", 2, bad_model(lose_a_tensor), {"model.norm.weight"}},
        {"misshapen_tensor", 2, bad_model(misshape_a_tensor), {"lm_head.weight", "40", "16"}},
        {"surplus_tensor", 2, bad_model(rename_a_tensor), {"model.norm.wieght"}},
        {"nan_weight", 2, bad_model(add_nan), {"model.layers.1.mlp.up_proj.weight", "5"}},
    };
}

std::vector<BadInput> records() {
    return {
        {"data_absent",
         2,
         [](const fs::path& folder) {
             return evaluate(write_tiny_model(folder / "model"), (folder / "none.jsonl").string());
         },
         {"none.jsonl"}},
        {"data_path_too_long",
         2,
         [](const fs::path& folder) {
             return evaluate(write_tiny_model(folder / "model"), std::string(300, 'x'));
         },
         {"cannot look at the path: File name too long", "xxx", "check the spelling"}},
        {"data_empty", 2, bad_data(""), {"records.jsonl"}},
        {"data_bad_utf8",
         2,
         bad_data("{\"instruction\": \"\xff\", \"output\": \"b\"}\n"),
         {"records.jsonl", "UTF-8"}},
        {"data_broken_line",
         2,
         bad_data(tokenised_records(1) + "{\"instruction\": \n"),
         {"records.jsonl", "line 2"}},
        {"record_without_response",
         2,
         bad_data("{\"instruction\": \"a\"}\n"),
         {"records.jsonl", "response"}},
        {"id_outside_vocabulary",
         2,
         bad_data("{\"input_ids\": [1, 40], \"labels\": [-100, 40]}\n"),
         {"40"}},
        {"labels_of_another_length",
         2,
         bad_data("{\"input_ids\": [1, 2], \"labels\": [-100]}\n"),
         {"records.jsonl", "labels"}},
        {"folder_without_test",
         2,
         [](const fs::path& folder) {
             fs::create_directories(folder / "clients");
             return evaluate(write_tiny_model(folder / "model"), (folder / "clients").string());
         },
         {"global_test.json", "give --data a file of records"}},
        {"gap_in_client_files",
         2,
         [](const fs::path& folder) {
             for (const char* name : {"local_training_0.json", "local_training_2.json"}) {
                 write_text(folder / "clients" / name, tokenised_records(4));
             }
             return train(write_tiny_model(folder / "model"), (folder / "clients").string(),
                          folder / "run");
         },
         {"local_training_1.json"}},
        {"more_clients_than_records",
         2,
         [](const fs::path& folder) {
             return train(write_tiny_model(folder / "model"),
                          write_text(folder / "records.jsonl", tokenised_records(1)),
                          folder / "run");
         },
         {"record"}},
        {"template_without_placeholder",
         2,
         bad_template(R"({"prompt_input": "{instruction}", "prompt_no_input": "{instruction}",
                          "response_split": "A:"})"),
         {"template.json", "prompt_input", "{input}"}},
        {"template_without_field",
         2,
         bad_template(R"({"prompt_input": "{instruction} {input}"})"),
         {"template.json", "prompt_no_input"}},
        {"texts_without_tokenizer",
         2,
         bad_data("{\"instruction\": \"a\", \"output\": \"b\"}\n"),
         {"tokenizer.json"}},
    };
}

std::vector<BadInput> others() {
    return {
        {"adapter_absent",
         2,
         [](const fs::path& folder) {
             return evaluate(write_tiny_model(folder / "model"),
                             write_text(folder / "records.jsonl", tokenised_records(4)),
                             {"--adapter", (folder / "none").string()});
         },
         {"none", "adapter_config.json"}},
        {"adapter_with_dora",
         2,
         [](const fs::path& folder) {
             write_text(folder / "adapter" / "adapter_config.json",
                        R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true,
                            "target_modules": ["q_proj"]})");
             write_text(folder / "adapter" / "adapter_model.safetensors", "");
             return evaluate(write_tiny_model(folder / "model"),
                             write_text(folder / "records.jsonl", tokenised_records(4)),
                             {"--adapter", (folder / "adapter").string()});
         },
         {"adapter_config.json", "use_dora"}},
        {"text_that_is_no_string",
         2,
         [](const fs::path& folder) {
             return Words{"tokenize", "--tokenizer", test::source_path("data/tiny-llama").string(),
                          "--input",
                          write_text(folder / "texts.jsonl", "\"good\"\n{\"a\": 1}\nbad\n")};
         },
         {"texts.jsonl, line 2", "texts.jsonl, line 3"}},
        {"texts_absent",
         2,
         words({"tokenize", "--tokenizer", test::source_path("data/tiny-llama").string(), "--input",
                "no/texts.jsonl"}),
         {"no/texts.jsonl", "--input"}},
        {"damaged_log", 2, damaged_log, {"run.h5"}},
        {"nothing_to_inspect",
         2,
         [](const fs::path& folder) {
             return Words{"inspect", folder.string()};
         },
         {"nothing here is known to fedit", "run.h5"}},
        {"occupied_output", 2, occupied_output, {"--output", "holds something already"}},
        {"output_that_cannot_be_written",
         1,
         [](const fs::path& folder) {
             return Words{"init", "--model-config",
                          write_text(folder / "config.json", tiny_config()), "--output",
                          "/proc/fedit-model"};
         },
         {"/proc"}},
        {"run_refused_by_resume_never",
         2,
         [](const fs::path& folder) {
             write_text(folder / "run" / "run.h5", "someone's");
             return train(write_tiny_model(folder / "model"),
                          write_text(folder / "records.jsonl", tokenised_records(8)),
                          folder / "run", {"--resume", "never"});
         },
         {"holds a run already", "--resume never"}},
        {"checkpoint_absent", 2, bad_training({"--resume", "no/such.h5"}), {"no/such.h5"}},
        {"init_adapter_absent", 2, bad_training({"--init-adapter", "no/adapter"}), {"no/adapter"}},
    };
}

std::vector<BadInput> all_cases() {
    std::vector<BadInput> all;
    for (const auto& part : {command_lines(), models(), records(), others()}) {
        all.insert(all.end(), part.begin(), part.end());
    }
    return all;
}

class BadInputs : public testing::TestWithParam<BadInput> {};

TEST_P(BadInputs, EndWithTheCodeAndAMessageThatHelps) {
    const BadInput& input = GetParam();

    const test::Outcome outcome = test::run_fedit(input.prepare(test::test_folder()));

    EXPECT_EQ(outcome.code, input.code);
    EXPECT_TRUE(test::says(outcome.err, input.message));
    EXPECT_TRUE(test::says(outcome.err, {"fedit: error: ", "  do:    "}));
    EXPECT_EQ(outcome.out, "");
}

INSTANTIATE_TEST_SUITE_P(Table, BadInputs, testing::ValuesIn(all_cases()),
                         [](const auto& param_info) { return param_info.param.name; });

/// A result that a program reads must be whole, or the exit code must say that it is not.
TEST(FullDisk, ForTheResultIsAFailure) {
    const fs::path full = "/dev/full";
    if (!fs::exists(full)) GTEST_SKIP() << "absent: " << full;
    const test::Outcome outcome = test::run(
        {.arguments = {"options"}, .environment = {}, .input = "", .out = full, .program = ""});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(test::says(outcome.err, {"No space left on device", "standard output"}));
}

TEST(Slurm, TasksThatDoNotKnowEachOtherAreRefused) {
    const test::Outcome outcome =
        test::run({.arguments = {"doctor"},
                   .environment = {{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}},
                   .input = "",
                   .out = "",
                   .program = ""});
    EXPECT_EQ(outcome.code, 2);
    EXPECT_TRUE(test::says(outcome.err, {"SLURM_STEP_NUM_TASKS=2", "srun --mpi=pmix"}));
}

}  // namespace
}  // namespace fedit
