// app/generate.cpp: `fedit generate`: answers to one prompt, to many, or in a conversation.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <optional>
#include <vector>

#include "app/commands.h"
#include "app/json_lines.h"
#include "app/records.h"
#include "fedit/experiment/adapter_file.h"
#include "fedit/experiment/generation.h"
#include "fedit/experiment/session.h"

namespace fedit {
namespace {

/// What is asked, and how the answers tell it apart.
struct Questions {
    std::vector<Prompt> prompts;
    std::vector<std::string> titles;
    std::optional<Tokenizer> tokenizer;
    PromptTemplate prompt = PromptTemplate::built_in();

    const Tokenizer* vocabulary() const { return tokenizer ? &*tokenizer : nullptr; }
    void add(std::vector<std::int32_t> ids, std::string_view text) {
        prompts.push_back({std::move(ids), static_cast<std::uint32_t>(prompts.size())});
        titles.emplace_back(text.substr(0, text.find('\n')));
    }
};

bool on_terminal() {
    return isatty(STDIN_FILENO) == 1;
}

/// Whether standard input holds instructions, since nothing else is asked.
bool is_conversation(const Config& config) {
    const bool asked = !config.prompt.empty() || !config.instruction.empty() ||
                       !config.data.empty() || !config.input.empty();
    if (asked || config.interactive) return config.interactive;
    if (on_terminal()) return true;
    throw InputError({.what = "nothing is asked",
                      .where = "command line",
                      .remedy =
                          "give --instruction TEXT, --prompt TEXT, --data PATH, --input FILE, "
                          "or --interactive to read instructions from standard input"});
}

std::vector<std::int32_t> to_ids(const Json& list, std::int64_t vocab_size) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < list.size(); ++i) {
        ids.push_back(static_cast<std::int32_t>(list[i].as_int(0, vocab_size - 1)));
    }
    return ids;
}

void read_lines(Questions& questions, const Config& config, std::int64_t vocab_size) {
    questions.tokenizer = read_tokenizer(config, Wanted::if_there);
    read_json_lines(config.input, "prompts", [&](const Json& line) {
        if (line.is_array()) return questions.add(to_ids(line, vocab_size), line.excerpt());
        if (!questions.tokenizer) questions.tokenizer = read_tokenizer(config, Wanted::always);
        questions.add(prompt_ids(*questions.tokenizer, line.as_string()), line.as_string());
    });
}

void read_records(Questions& questions, const Config& config, const ModelConfig& model) {
    RecordSet set = read_record_set(config, Wanted::if_there);
    encode(set, config, model);  // names ids outside the vocabulary
    questions.tokenizer = std::move(set.tokenizer);
    for (std::size_t i = 0; i < set.records.size(); ++i) {
        const Record& record = set.records[i];
        if (record.is_plain_text) {
            throw InputError(
                {.what = "the record is plain text: it asks nothing",
                 .where = fmt::format("--data {}, record {} (the first is 0)", config.data, i),
                 .remedy = "give it an instruction, or texts to go on with by --input"});
        }
        questions.add(prompt_ids(record, questions.vocabulary(), set.prompt), record.instruction);
    }
}

Questions read_questions(const Config& config, const ModelConfig& model) {
    Questions questions;
    if (!config.data.empty()) {
        read_records(questions, config, model);
    } else if (!config.input.empty()) {
        read_lines(questions, config, model.vocab_size);
        if (questions.prompts.empty()) {
            throw InputError({.what = "there are no prompts",
                              .where = fmt::format("--input {}", config.input),
                              .remedy = "give one JSON string a line"});
        }
    } else {
        questions.prompt = prompt_template(config);
        questions.tokenizer = read_tokenizer(config, Wanted::always);
        const std::string text = config.prompt.empty()
                                     ? questions.prompt.prompt(config.instruction, config.context)
                                     : config.prompt;
        if (!config.prompt.empty() || !config.instruction.empty()) {
            questions.add(prompt_ids(*questions.tokenizer, text), text);
        }
    }
    return questions;
}

/// Prints an answer while it grows.
void answer_aloud(const Context& context, const Config& config, Generator& generator,
                  const Prompt& prompt, const Tokenizer* tokenizer) {
    if (config.output_format == "json") {
        const Answer answer = generator.answer(prompt, [](std::string_view) {});
        print_result(context.comm, to_json(prompt, answer, tokenizer) + '\n');
        return;
    }
    generator.answer(prompt, [&](std::string_view part) { print_result(context.comm, part); });
    print_result(context.comm, "\n");
}

void converse(const Context& context, const Config& config, Generator& generator,
              const Questions& questions) {
    const auto invite = [] {
        if (on_terminal()) std::cerr << "> " << std::flush;
    };
    if (on_terminal()) context.log.info("one instruction a line; an empty line ends");
    std::string line;
    std::uint32_t turn = 0;
    for (invite(); std::getline(std::cin, line); invite()) {
        if (line.empty() && on_terminal()) break;
        if (line.empty()) continue;
        const std::string text = config.plain ? line : questions.prompt.prompt(line, "");
        const Prompt prompt{prompt_ids(*questions.tokenizer, text), turn++};
        try {
            answer_aloud(context, config, generator, prompt, questions.vocabulary());
        } catch (const InputError& error) {
            if (!on_terminal()) throw;
            context.log.warning(error.what());
        }
    }
}

void answer_all(const Context& context, const Config& config, Generator& generator,
                const Questions& questions) {
    const auto& prompts = questions.prompts;
    const auto batch = static_cast<std::size_t>(config.eval_batch_size);
    const std::size_t part = batch * static_cast<std::size_t>(context.comm.size());
    context.comm.together("check the prompts", [&] { generator.check(prompts); });
    for (std::size_t first = 0; first < prompts.size(); first += part) {
        const auto some = std::span(prompts).subspan(first, std::min(part, prompts.size() - first));
        const std::vector<Answer> answers =
            generator.answer(context.comm, some, static_cast<int>(batch));
        std::string out;
        for (std::size_t i = 0; i < answers.size(); ++i) {
            out += config.output_format == "json"
                       ? to_json(some[i], answers[i], questions.vocabulary()) + '\n'
                       : fmt::format("--- {}: {}\n{}\n", first + i, questions.titles[first + i],
                                     questions.tokenizer
                                         ? answers[i].text
                                         : fmt::format("{}", fmt::join(answers[i].new_ids, " ")));
        }
        print_result(context.comm, out);
    }
}

}  // namespace

ExitCode run_generate(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    bool conversation = false;
    comm.together("read the command line", [&] {
        conversation = is_conversation(config);
        if (comm.size() == 1 || (!conversation && config.input != "-")) return;
        throw InputError({.what = "standard input belongs to one rank",
                          .where = fmt::format("{} ranks", comm.size()),
                          .remedy = "start it without mpirun, or give --input FILE"});
    });
    Machine machine = choose_machine(config, comm);
    ProgressLine progress(context.log.out(), context.progress);
    const BaseModel base(comm, config.model, machine, &progress);
    const ModelConfig& model = base.config();

    Questions questions;
    PeftAdapter adapter;
    GenerationConfig settings;
    comm.together("read prompts and adapter", [&] {
        questions = read_questions(config, model);
        if (!config.adapter.empty()) adapter = read_adapter(config.adapter, model);
        settings = generation_config(config, questions.vocabulary(), model.vocab_size);
    });
    Decoder decoder(model, base.weights(), adapter.layout, *machine.backend);
    Generator generator(model, decoder, *machine.backend, questions.vocabulary(), adapter.x,
                        settings);
    const bool single = comm.size() == 1 && config.data.empty() && config.input.empty();
    if (conversation) {
        converse(context, config, generator, questions);
    } else if (single) {
        answer_aloud(context, config, generator, questions.prompts.front(), questions.vocabulary());
    } else {
        answer_all(context, config, generator, questions);
    }
    return ExitCode::done;
}

}  // namespace fedit
