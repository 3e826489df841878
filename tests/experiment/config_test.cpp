// tests/experiment/config_test.cpp: the option table, values in and out, and what is refused.
#include "fedit/experiment/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "fedit/core/error.h"

namespace fedit {
namespace {

/// The message of the InputError that `action` must throw.
std::string fault(const std::function<void()>& action) {
    try {
        action();
    } catch (const InputError& error) {
        return error.what();
    }
    return "no error";
}

testing::AssertionResult says(const std::string& text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
        if (text.find(part) == std::string::npos) {
            return testing::AssertionFailure() << "\"" << part << "\" is not in:\n" << text;
        }
    }
    return testing::AssertionSuccess();
}

Config complete() {
    Config config;
    config.model = "m", config.data = "d", config.output = "o";
    return config;
}

const Option& option(std::string_view name) {
    return *find_option(name);
}

TEST(OptionTable, HasEachNameOnceWithHelpAndACommand) {
    std::set<std::string_view> names;
    for (const Option& each : option_table()) {
        EXPECT_TRUE(names.insert(each.name).second) << each.name;
        EXPECT_FALSE(each.help.empty()) << each.name;
        EXPECT_NE(each.commands, 0) << each.name;
        EXPECT_EQ(each.required & ~each.commands, 0) << each.name;
    }
    EXPECT_EQ(find_option("no-such-option"), nullptr);
}

TEST(OptionTable, AcceptsItsOwnDefaults) {
    for (const Option& each : option_table()) {
        Config config;
        EXPECT_NO_THROW(set_option(config, each, option_value(Config{}, each), "here"))
            << each.name;
        EXPECT_EQ(config, Config{}) << each.name;
    }
}

TEST(SetOption, ReadsNumbersExactly) {
    Config config;
    for (const double value : {0.1, 1.0 / 3, 1e-300, 5e-324, 123.456789012345678, 3e-4}) {
        Config source;
        source.weight_decay = value;
        set_option(config, option("weight-decay"), option_value(source, option("weight-decay")),
                   "here");
        EXPECT_EQ(config.weight_decay, value);
    }
    set_option(config, option("seed"), "9000000000000000", "here");
    EXPECT_EQ(config.seed, 9000000000000000);
}

struct BadValue {
    const char* name;
    const char* value;
    const char* accepted;
};
class BadValues : public testing::TestWithParam<BadValue> {};
TEST_P(BadValues, RefusesWithPlaceValueAndWhatIsAccepted) {
    const auto [name, value, accepted] = GetParam();
    Config config;
    const auto set = [&, name = name, value = value] {
        set_option(config, option(name), value, "run.ini, line 3");
    };
    EXPECT_TRUE(says(fault(set), {std::string("\"") + value + "\" is not a value of --" + name,
                                  "where: run.ini, line 3", accepted}));
    EXPECT_EQ(config, Config{}) << "a refused value must change nothing";
}
INSTANTIATE_TEST_SUITE_P(Values, BadValues,
                         testing::Values(BadValue{"lora-r", "0", "a whole number from 1 to 4096"},
                                         BadValue{"lora-r", "4.5", "a whole number"},
                                         BadValue{"lora-r", "", "a whole number"},
                                         BadValue{"lora-r", "4 ", "a whole number"},
                                         BadValue{"lora-r", "99999999999999999999",
                                                  "a whole number"},
                                         BadValue{"cutoff-len", "0", "from 1 to"},
                                         BadValue{"client-fraction", "0", "a number above 0"},
                                         BadValue{"client-fraction", "1.5", "to 1"},
                                         BadValue{"lora-dropout", "1", "to 0.999"},
                                         BadValue{"learning-rate", "nan", "a number from 0"},
                                         BadValue{"learning-rate", "inf", "a number from 0"},
                                         BadValue{"learning-rate", "3e-4x", "a number from 0"},
                                         BadValue{"learning-rate", "-1", "a number from 0"},
                                         BadValue{"use-rslora", "yes", "true or false"},
                                         BadValue{"optimizer", "adam", "one of: adamw, sgd"},
                                         BadValue{"model", "a\nb", "without control characters"}),
                         [](const auto& param_info) {
                             std::string name = std::string(param_info.param.name) + "_" +
                                                std::to_string(param_info.index);
                             for (char& c : name) c = c == '-' ? '_' : c;
                             return name;
                         });

TEST(CheckConfig, AcceptsACompleteConfig) {
    EXPECT_NO_THROW(check_config(complete(), Command::train));
}

TEST(CheckConfig, NamesAllThatACommandNeeds) {
    EXPECT_TRUE(says(fault([] { check_config({}, Command::train); }),
                     {"fedit train needs --model FOLDER", "fedit train needs --data PATH",
                      "fedit train needs --output FOLDER"}));
    EXPECT_TRUE(says(fault([] { check_config({}, Command::tokenize); }),
                     {"needs --tokenizer", "needs --input"}));
    EXPECT_TRUE(says(fault([] { check_config({}, Command::inspect); }), {"needs --path PATH"}));
    EXPECT_NO_THROW(check_config({}, Command::doctor));
}

TEST(CheckConfig, TellsAllFaultsAtOnce) {
    Config config = complete();
    config.lora_r = 0;
    config.optimizer = "adam";
    config.learning_rate = std::numeric_limits<double>::quiet_NaN();
    config.batch_size = 4;
    EXPECT_TRUE(says(fault([&] { check_config(config, Command::train); }),
                     {"--lora-r", "\"adam\"", "--learning-rate",
                      "--micro-batch-size 8, --batch-size 4", "raise --batch-size"}));
}

TEST(CheckConfig, RefusesCombinationsThatContradict) {
    Config both = complete();
    both.local_steps = 3, both.local_epochs = 2;
    EXPECT_TRUE(says(fault([&] { check_config(both, Command::train); }),
                     {"--local-steps 3, --local-epochs 2", "give one of the two"}));
    Config warm = complete();
    warm.local_steps = 3, warm.warmup_steps = 3, warm.lr_scheduler = "linear";
    EXPECT_TRUE(says(fault([&] { check_config(warm, Command::train); }), {"--lr-scope run"}));
    warm.lr_scope = "run";
    EXPECT_NO_THROW(check_config(warm, Command::train));
    Config part = complete();
    part.client_fraction = 0.5, part.mode = "local";
    EXPECT_TRUE(says(fault([&] { check_config(part, Command::train); }),
                     {"every client trains in every round", "--client-fraction 0.5"}));
    part.client_fraction = 1, part.log_aggregation_error = 1;
    EXPECT_TRUE(says(fault([&] { check_config(part, Command::train); }),
                     {"only averaged factors", "--mode local, --log-aggregation-error 1"}));
    part.client_fraction = 0.5, part.log_aggregation_error = 0;
    part.mode = "centralized";
    EXPECT_TRUE(says(fault([&] { check_config(part, Command::train); }),
                     {"one client that holds all records", "--mode federated"}));
}

TEST(CheckConfig, ACohortIsANumberOrChosenByTheRun) {
    Config config = complete();
    for (const char* good : {"1", "8", "1024", "auto"}) {
        config.cohort = good;
        EXPECT_NO_THROW(check_config(config, Command::train)) << good;
    }
    for (const char* bad : {"0", "-1", "1025", "2x", "", "Auto", "2.5"}) {
        config.cohort = bad;
        EXPECT_TRUE(says(
            fault([&] { check_config(config, Command::train); }),
            {std::string("\"") + bad + "\" is not a value of --cohort", "from 1 to 1024, or auto"}))
            << bad;
    }
    config.cohort = "4";
    EXPECT_EQ(plan_config(config).cohort, 4);
    config.tune = "full";
    EXPECT_TRUE(says(fault([&] { check_config(config, Command::train); }),
                     {"--tune full, --cohort 4", "leave out --cohort"}));
    config.cohort = "auto";
    EXPECT_NO_THROW(check_config(config, Command::train));
    Config bench;
    bench.model = "m";
    bench.cohort = "auto";
    EXPECT_TRUE(says(fault([&] { check_config(bench, Command::bench); }),
                     {"\"auto\" is not a value of --cohort", "from 1 to 1024"}));
}

TEST(CheckConfig, RefusesTargetsThatNoModelHas) {
    const auto message = [](const std::string& targets) {
        Config config = complete();
        config.lora_target_modules = targets;
        return fault([&] { check_config(config, Command::train); });
    };
    EXPECT_TRUE(says(message("q_proj,k_prj"), {"\"k_prj\"; did you mean k_proj?", "all-linear"}));
    EXPECT_TRUE(says(message("q_proj,q_proj"), {"\"q_proj\" is named twice"}));
    EXPECT_TRUE(says(message(" , "), {"no linear layer would get an adapter"}));
    EXPECT_TRUE(says(message("all-linear,q_proj"), {"all-linear stands beside single layers"}));
    EXPECT_EQ(message("all-linear"), "no error");
}

TEST(Ini, RoundTripsEveryOption) {
    Config config = complete();
    config.learning_rate = 1.0 / 3;
    config.alpha = 0.30000000000000004;
    config.data = " folder with spaces ";
    config.prompt_template = "\"quoted\" \\ name";
    config.init_adapter = "a = b # c";
    config.use_rslora = true;
    config.seed = 9000000000000000;
    Config back;
    apply_ini(back, Command::train, to_ini(config, Command::train), "config.ini");
    EXPECT_EQ(back, config);
}

TEST(Ini, RoundTripsLineBreaksInWhatIsAsked) {
    Config config;
    config.model = "m", config.prompt = "a\nb\t\"c\" \\n \r", config.stop_strings = "\n\n";
    const std::string text = to_ini(config, Command::generate);
    EXPECT_TRUE(says(text, {R"(prompt = "a\nb\t\"c\" \\n \r")", R"(stop-strings = "\n\n")"}));
    Config back;
    apply_ini(back, Command::generate, text, "config.ini");
    EXPECT_EQ(back, config);
    EXPECT_TRUE(
        says(fault([&] { apply_ini(back, Command::generate, R"(prompt = "\x")", "x.ini"); }),
             {"quotes of \"\\x\" do not match", "x.ini, line 1"}));
}

TEST(Ini, HasTheOptionsOfTheCommandWithTheirHelp) {
    const std::string text = to_ini({}, Command::init);
    EXPECT_TRUE(
        says(text, {"\nseed = 0\n", "\nmodel-config =\n", "# Seed of every random stream"}));
    EXPECT_EQ(text.find("lora-r"), std::string::npos);
}

TEST(Ini, ReadsCommentsBlanksAndWindowsLines) {
    Config config;
    apply_ini(config, Command::train, "# a comment\r\n\r\n  lora-r=4 \r\nmodel = a b\n\tseed = 7",
              "x.ini");
    EXPECT_EQ(config.lora_r, 4);
    EXPECT_EQ(config.model, "a b");
    EXPECT_EQ(config.seed, 7);
}

TEST(Ini, TellsAllFaultyLinesAtOnce) {
    Config config;
    EXPECT_TRUE(says(fault([&] {
                         apply_ini(config, Command::train,
                                   "lora-r = 4\nlora-r = 8\n[section]\nlora_alpha = 3\n"
                                   "model-config = x\nrounds = many\nmodel = \"open\n = 3\n",
                                   "x.ini");
                     }),
                     {"\"lora-r\" is set twice", "x.ini, line 2", "\"[section]\" is not a setting",
                      "x.ini, line 3", "\"lora_alpha\"; did you mean lora-alpha?", "x.ini, line 4",
                      "\"model-config\" is not an option of fedit train", "x.ini, line 5",
                      "\"many\" is not a value of --rounds", "x.ini, line 6",
                      "quotes of \"open do not match", "x.ini, line 7", "x.ini, line 8"}));
}

TEST(Checks, OfGenerationNameWhatContradicts) {
    Config config;
    config.model = "m", config.prompt = "p", config.data = "d", config.context = "c";
    config.top_k = 5, config.top_p = 0.5;
    EXPECT_TRUE(says(fault([&] { check_config(config, Command::generate); }),
                     {"more than one source of prompts", "--prompt, --data",
                      "a context belongs to an instruction",
                      "--temperature 0, --top-k 5, --top-p 0.5", "give --temperature above 0"}));
    config = {};
    config.model = "m", config.instruction = "i", config.context = "c";
    config.temperature = 0.7, config.top_k = 5, config.top_p = 0.5;
    EXPECT_NO_THROW(check_config(config, Command::generate));
    config.top_p = 0, config.temperature = -1, config.repetition_penalty = 0;
    config.max_new_tokens = 0, config.top_k = -1;
    EXPECT_TRUE(
        says(fault([&] { check_config(config, Command::generate); }),
             {"\"0\" is not a value of --top-p", "a number above 0, up to 1",
              "\"-1\" is not a value of --temperature", "--repetition-penalty",
              "\"0\" is not a value of --max-new-tokens", "\"-1\" is not a value of --top-k"}));
}

TEST(Checks, OfEvaluationNameWhatContradicts) {
    Config config;
    config.model = "m", config.data = "d", config.adapter = " , ", config.top_p = 0.5;
    EXPECT_TRUE(says(fault([&] { check_config(config, Command::evaluate); }),
                     {"no adapter is named", "--top-p 0.5"}));
}

TEST(Suggestion, NamesWhatIsSpelledAlikeOrContainsTheName) {
    const std::vector<std::string> known = option_names(Command::train);
    EXPECT_EQ(suggestion("lora-rr", known, "--"), "; did you mean --lora-r?");
    EXPECT_EQ(suggestion("micro_batch_size", known), "; did you mean micro-batch-size?");
    EXPECT_EQ(suggestion("walltime", known), "; did you mean max-walltime?");
    EXPECT_EQ(suggestion("zzzz", known), "");
}

TEST(Settings, AreTakenFromTheConfig) {
    Config config;
    config.lora_r = 4, config.lora_alpha = 8, config.lora_target_modules = "all-linear";
    config.use_rslora = true;
    config.optimizer = "sgd", config.lr_scheduler = "cosine", config.lr_scope = "run";
    config.rounds = 7, config.local_steps = 5, config.seed = 11;
    const LoraConfig lora = lora_config(config);
    EXPECT_EQ(lora.target_modules.size(), linear_count);
    EXPECT_EQ(lora.target_modules.front(), "q_proj");
    EXPECT_TRUE(lora.use_rslora);
    const LocalConfig local = local_config(config);
    EXPECT_EQ(local.optimizer, OptimizerKind::sgd);
    EXPECT_EQ(local.schedule.kind, LrScheduler::cosine);
    EXPECT_EQ(local.lr_scope, LrScope::run);
    EXPECT_EQ(local.rounds, 7);
    EXPECT_EQ(local.steps, 5);
    EXPECT_EQ(local.seed, 11U);
    EXPECT_EQ(encode_options(config).cutoff_len, 512);
    EXPECT_EQ(split_list(" a, b ,,c"), (std::vector<std::string>{"a", "b", "c"}));
}

}  // namespace
}  // namespace fedit
