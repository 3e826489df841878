// tests/app/options_test.cpp: what the command line means, and what it says about mistakes.
#include "app/options.h"

#include <gtest/gtest.h>

#include "app/environment.h"
#include "app/help.h"
#include "fedit/core/error.h"
#include "tests/app/run_fedit.h"

namespace fedit {
namespace {

using Words = std::vector<std::string>;

Words train(const Words& more) {
    Words words{"train", "--model", "m", "--data", "d", "--output", "o"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
}

/// The message of the InputError that these words must give.
std::string fault(const Words& words) {
    try {
        parse_options(words);
    } catch (const InputError& error) {
        return error.what();
    }
    return "no error";
}

TEST(Options, GiveTheDefaultsWhereNothingIsSaid) {
    const Options options = parse_options(train({}));
    EXPECT_FALSE(options.text);
    EXPECT_EQ(options.command, Command::train);
    Config expected;
    expected.model = "m", expected.data = "d", expected.output = "o";
    EXPECT_EQ(options.config, expected);
}

TEST(Options, AreReadInBothSpellingsAndFlagsCanBeSwitchedOff) {
    const Config config = parse_options(train({"--lora-r", "4", "--learning-rate=1e-4",
                                               "--use-rslora", "--train-on-inputs=false"}))
                              .config;
    EXPECT_EQ(config.lora_r, 4);
    EXPECT_EQ(config.learning_rate, 1e-4);
    EXPECT_TRUE(config.use_rslora);
    EXPECT_FALSE(config.train_on_inputs);
}

TEST(Options, OfTheCommandLineGoBeforeTheFileAndTheFileBeforeTheDefaults) {
    const std::string file = test::write_text(test::test_folder() / "run.ini",
                                              "lora-r = 4\nseed = 5\nuse-rslora = true\n");
    const Config config =
        parse_options(train({"--seed", "6", "--config", file, "--use-rslora=false"})).config;
    EXPECT_EQ(config.lora_r, 4);
    EXPECT_EQ(config.seed, 6);
    EXPECT_FALSE(config.use_rslora);
    EXPECT_EQ(config.rounds, Config{}.rounds);
}

TEST(Options, DumpedAsAFileReadBackTheSame) {
    const Options dumped = parse_options(
        train({"--learning-rate", "0.1", "--alpha", "0.30000000000000004", "--prompt-template",
               " a\"b ", "--max-grad-norm", "1e-300", "--dump-config"}));
    ASSERT_TRUE(dumped.text);
    const std::string file = test::write_text(test::test_folder() / "run.ini", *dumped.text);
    EXPECT_EQ(parse_options(Words{"train", "--config", file}).config, dumped.config);
}

TEST(Options, CanBeDumpedBeforeTheRequiredOnesAreKnown) {
    const Options dumped = parse_options(Words{"train", "--dump-config"});
    ASSERT_TRUE(dumped.text);
    EXPECT_TRUE(test::says(*dumped.text, {"lora-r = 16\n", "model =\n", "# Rank of the adapters"}));
}

TEST(Options, LetMicroBatchesFollowTheBatchWhereTheirSizeIsNotGiven) {
    const auto size = [](const Words& more) {
        return parse_options(train(more)).config.micro_batch_size;
    };
    EXPECT_EQ(size({}), 8);
    EXPECT_EQ(size({"--batch-size", "8"}), 8);
    EXPECT_EQ(size({"--batch-size", "4"}), 4);
    EXPECT_EQ(size({"--batch-size", "4", "--micro-batch-size", "2"}), 2);
    EXPECT_EQ(
        parse_options(Words{"bench", "--model", "m", "--batch-size", "4"}).config.micro_batch_size,
        4);
    const std::string batch = test::write_text(test::test_folder() / "batch.ini", "batch-size = 3");
    EXPECT_EQ(size({"--config", batch}), 3);

    // What is given is held to, in a file as on the command line.
    const std::string both =
        test::write_text(test::test_folder() / "both.ini", "batch-size = 16\nmicro-batch-size = 8");
    EXPECT_TRUE(test::says(fault(train({"--config", both, "--batch-size", "4"})),
                           {"--micro-batch-size 8, --batch-size 4"}));
    EXPECT_TRUE(test::says(fault(train({"--batch-size", "4", "--micro-batch-size", "8"})),
                           {"--micro-batch-size 8, --batch-size 4"}));
    EXPECT_TRUE(test::says(fault(train({"--micro-batch-size", "0"})), {"\"0\""}));
}

TEST(Options, StoreTheSizeOfMicroBatchesThatTheyTrainWith) {
    const Options dumped = parse_options(train({"--batch-size", "4", "--dump-config"}));
    EXPECT_TRUE(test::says(dumped.text.value(), {"micro-batch-size = 4\n"}));
}

TEST(Options, TakeThePathOfInspectWithoutItsName) {
    EXPECT_EQ(parse_options(Words{"inspect", "runs/a"}).config.input, "runs/a");
    EXPECT_EQ(parse_options(Words{"inspect", "--path", "runs/a"}).config.input, "runs/a");
}

TEST(Options, ThatAreUnknownNameTheOneSpelledAlike) {
    EXPECT_TRUE(test::says(fault(train({"--lora-rr", "3"})),
                           {"there is no option --lora-rr; did you mean --lora-r?",
                            "where: command line", "fedit train --help"}));
    EXPECT_TRUE(
        test::says(fault(train({"--learning_rate", "3"})), {"did you mean --learning-rate?"}));
    EXPECT_TRUE(test::says(fault(train({"--epochs", "3"})), {"did you mean --local-epochs?"}));
    EXPECT_TRUE(test::says(fault({"doctor", "--lora-r", "3"}),
                           {"--lora-r is not an option of fedit doctor"}));
}

TEST(Options, AreNeverGuessedFromAnAbbreviation) {
    EXPECT_TRUE(test::says(fault(train({"--learning", "3"})),
                           {"there is no option --learning;", "did you mean --learning-rate?",
                            "names are written in full"}));
}

TEST(Options, MayBeGivenOnlyOnce) {
    EXPECT_TRUE(test::says(fault(train({"--seed", "3", "--seed", "4"})),
                           {"--seed is given twice", "give it once"}));
}

TEST(Options, TakeNoStrayWords) {
    EXPECT_TRUE(test::says(
        fault(train({"lora-r", "--seed", "1"})),
        {"\"lora-r\" is neither an option nor the value of one", "did you mean --lora-r?"}));
    EXPECT_TRUE(test::says(fault(train({"--dump-config", "word"})), {"\"word\" is neither"}));
    EXPECT_TRUE(test::says(fault(train({"--use-rslora", "word"})), {"\"word\"", "true or false"}));
}

TEST(Options, WithoutTheirValueAreAnError) {
    EXPECT_TRUE(test::says(fault(train({"--seed"})), {"seed", "fedit train --help"}));
}

TEST(Options, TellAllFaultsAtOnce) {
    const std::string file =
        test::write_text(test::test_folder() / "run.ini", "rounds = 0\nx = 1\n");
    EXPECT_TRUE(test::says(
        fault(train({"--lora-r", "0", "--seeds", "1", "--dtype", "fp8", "word", "--config", file})),
        {"\"0\" is not a value of --lora-r", "command line, --lora-r", "from 1 to 4096", "--seeds",
         "\"fp8\" is not a value of --dtype", "one of: auto, fp32, bf16", "\"word\"",
         file + ", line 1", "\"0\" is not a value of --rounds", file + ", line 2",
         "there is no option \"x\""}));
}

TEST(Options, RequiredAndContradictingOnesAreAllNamed) {
    EXPECT_TRUE(test::says(fault({"train", "--micro-batch-size", "8", "--batch-size", "4"}),
                           {"fedit train needs --model FOLDER", "needs --data PATH",
                            "needs --output FOLDER", "--micro-batch-size 8, --batch-size 4"}));
    EXPECT_TRUE(test::says(fault({"bench"}), {"no model is named", "--model-config FILE"}));
    EXPECT_TRUE(test::says(fault({"bench", "--model", "a", "--model-config", "b"}),
                           {"two models are named"}));
}

TEST(Commands, ThatAreUnknownNameTheOneSpelledAlike) {
    EXPECT_TRUE(test::says(fault({"trains"}),
                           {"there is no command \"trains\"; did you mean fedit train?"}));
    EXPECT_TRUE(
        test::says(fault({"--seed", "1"}), {"the first word must be a command, not --seed"}));
}

TEST(Help, OfEachCommandShowsUsageExampleAndAllItsOptions) {
    for (const Command command : all_commands) {
        const Options options = parse_options(Words{std::string(to_string(command)), "--help"});
        ASSERT_TRUE(options.text);
        EXPECT_TRUE(test::says(*options.text, {"usage: ", "example:\n", "--config FILE"}));
        for (const std::string& name : option_names(command)) {
            EXPECT_TRUE(test::says(*options.text, {"  --" + name}));
        }
    }
}

TEST(Help, MarksDefaultsRequirementsAndIdentity) {
    EXPECT_TRUE(test::says(command_help(Command::train),
                           {"--lora-r N *", "(default: 16)", "(required)", "One of adamw, sgd.",
                            "* belongs to the run's identity", "Local training:"}));
}

TEST(Help, FitsATerminalOfAHundredColumns) {
    for (const Command command : all_commands) {
        std::istringstream lines(command_help(command));
        for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
    }
}

TEST(Help, ComesForNoWordsAndForHelp) {
    EXPECT_EQ(parse_options(Words{}).text, overview_help());
    EXPECT_EQ(parse_options(Words{"--help"}).text, overview_help());
    for (const Command command : all_commands) {
        EXPECT_TRUE(test::says(overview_help(), {"\n  " + std::string(to_string(command))}));
    }
    EXPECT_TRUE(test::says(*parse_options(Words{"--version"}).text, {"fedit 0.", "commit "}));
}

TEST(Launch, OfSlurmTasksThatDoNotKnowEachOtherIsRefused) {
    const Environment alone{{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}};
    try {
        check_launch(alone, 1);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_TRUE(test::says(
            error.what(), {"Slurm started 4 tasks", "SLURM_STEP_NUM_TASKS=4", "srun --mpi=pmix"}));
    }
    EXPECT_THROW(check_launch({{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"}}, 1), InputError);
    EXPECT_NO_THROW(check_launch(alone, 4));
    EXPECT_NO_THROW(check_launch({{"SLURM_NTASKS", "4"}}, 1)) << "the batch script itself";
    EXPECT_NO_THROW(check_launch(
        {{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, 1))
        << "mpirun -n 1 inside a job of two nodes";
    EXPECT_NO_THROW(check_launch({}, 1));
}

}  // namespace
}  // namespace fedit
