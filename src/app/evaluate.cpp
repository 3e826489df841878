// app/evaluate.cpp: `fedit evaluate`: the base model, adapters on it, or several side by side.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "app/commands.h"
#include "app/records.h"
#include "app/token_losses.h"
#include "fedit/experiment/adapter_file.h"
#include "fedit/experiment/evaluation.h"
#include "fedit/experiment/federated_data.h"
#include "fedit/experiment/session.h"

namespace fedit {
namespace {

constexpr std::string_view base_name = "base";

/// One column of the result; without an adapter the base alone.
struct Entry {
    std::string name;
    PeftAdapter adapter;
};

std::vector<Entry> read_entries(const Config& config, const ModelConfig& model) {
    // A path may hold a comma itself.
    std::vector<std::string> names = std::filesystem::exists(config.adapter)
                                         ? std::vector{config.adapter}
                                         : split_list(config.adapter);
    if (names.empty()) names.emplace_back(base_name);
    std::vector<Entry> entries;
    for (const std::string& name : names) {
        entries.push_back({name, name == base_name ? PeftAdapter{} : read_adapter(name, model)});
    }
    return entries;
}

/// What is measured, besides the model.
struct Sample {
    RecordSet set;
    EncodedRecords encoded;
    EncodedChoices choices;
    const Tokenizer* tokenizer() const { return set.tokenizer ? &*set.tokenizer : nullptr; }
};

Sample read_sample(const Config& config, const ModelConfig& model) {
    Sample sample{
        read_record_set(config, config.generate ? Wanted::if_there : Wanted::for_texts), {}, {}};
    sample.encoded = encode(sample.set, config, model);
    sample.choices = encode_choices(sample.set.records, sample.tokenizer(), sample.set.prompt,
                                    encode_options(config), model.vocab_size);
    return sample;
}

Evaluation measure(const Communicator& comm, const Config& config, Machine& machine,
                   const BaseModel& base, const Sample& sample, const PeftAdapter& adapter) {
    Backend& backend = *machine.backend;
    const int batch_size = static_cast<int>(config.eval_batch_size);
    Decoder decoder(base.config(), base.weights(), adapter.layout, backend);
    std::vector<RecordScore> scores =
        score_records(comm, decoder, backend, sample.encoded, adapter.x, batch_size);
    if (!sample.choices.groups.empty()) {
        score_choices(comm, decoder, backend, sample.choices, adapter.x, batch_size, scores);
    }
    if (config.generate) {
        Generator generator(
            base.config(), decoder, backend, sample.tokenizer(), adapter.x,
            generation_config(config, sample.tokenizer(), base.config().vocab_size));
        score_answers(comm, generator, base.config(), sample.tokenizer(), sample.set.prompt,
                      sample.set.records, batch_size, scores);
    }
    return summarise(scores, sample.encoded);
}

void warn_of_unscored(const Context& context, const Config& config, const Sample& sample,
                      const Evaluation& evaluation) {
    const auto& records = sample.set.records;
    const auto with_choices =
        std::count_if(records.begin(), records.end(),
                      [](const Record& record) { return !record.choices.empty(); });
    if (with_choices > evaluation.all.choice_records) {
        context.log.warning(fmt::format(
            "{} of {} multiple-choice records are not ranked: --cutoff-len {} would cut a choice",
            with_choices - evaluation.all.choice_records, with_choices, config.cutoff_len));
    }
    if (config.generate && evaluation.all.answers < evaluation.all.records) {
        context.log.warning(
            fmt::format("{} of {} records have no answer: their prompts fill the model's positions",
                        evaluation.all.records - evaluation.all.answers, evaluation.all.records));
    }
}

}  // namespace

ExitCode run_evaluate(const Context& context, const Config& config) {
    const Communicator& comm = context.comm;
    Machine machine = choose_machine(config, comm);
    ProgressLine progress(context.log.out(), context.progress);
    const BaseModel base(comm, config.model, machine, &progress);

    Sample sample;
    std::vector<Entry> entries;
    comm.together("read records and adapters", [&] {
        sample = read_sample(config, base.config());
        entries = read_entries(config, base.config());
    });
    warn_of_long_records(sample.encoded, base.config(), context.log);
    std::vector<NamedEvaluation> results;
    for (const Entry& entry : entries) {
        results.push_back(
            {entry.name, measure(comm, config, machine, base, sample, entry.adapter)});
    }
    warn_of_unscored(context, config, sample, results.front().evaluation);
    if (!config.token_losses.empty()) {
        comm.together("write the losses of tokens", [&] {
            if (comm.rank() != 0) return;
            const PeftAdapter& adapter = entries.front().adapter;
            Decoder decoder(base.config(), base.weights(), adapter.layout, *machine.backend);
            context.files.write(config.token_losses,
                                token_losses(decoder, *machine.backend, sample.encoded, adapter.x));
        });
    }
    const bool json = config.output_format == "json";
    if (results.size() == 1) {
        const Evaluation& only = results.front().evaluation;
        print_result(comm, json ? to_json(only) + '\n' : to_table(only));
    } else {
        print_result(comm, json ? to_json(results) + '\n' : to_table(results));
    }
    return ExitCode::done;
}

}  // namespace fedit
