// experiment/generation.cpp: the loop from prompts to answers.
#include "fedit/experiment/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "experiment/answer_text.h"
#include "fedit/core/error.h"

namespace fedit {
namespace {

constexpr std::size_t most_faults = 20;

/// One answer that is being made.
struct Running {
    const Prompt& prompt;
    std::int64_t limit;                 ///< new tokens at most
    std::vector<std::int32_t> context;  ///< prompt and answer
    std::optional<AnswerText> text;
    Answer answer;
};

/// Appends the part of a sequence that the cache does not hold yet; its last row is a target.
void add_sequence(PackedBatch& batch, std::span<const std::int32_t> context, std::int64_t cached) {
    for (std::size_t t = static_cast<std::size_t>(cached); t < context.size(); ++t) {
        batch.row_counter.push_back(batch.rows());
        batch.tokens.push_back(context[t]);
        batch.positions.push_back(static_cast<std::int32_t>(t));
    }
    batch.target_rows.push_back(batch.rows() - 1);
    batch.targets.push_back(0);
    batch.target_weight.push_back(0);
    batch.sequence_begin.push_back(batch.rows());
    batch.slot_begin = {0, batch.rows()};
}

/// Takes in the next token; true if the answer ends with it.
bool accept(Running& running, std::int32_t token, const GenerationConfig& config) {
    Answer& answer = running.answer;
    answer.new_ids.push_back(token);
    running.context.push_back(token);
    const auto& ends = config.end_tokens;
    bool stopped = std::find(ends.begin(), ends.end(), token) != ends.end();
    if (running.text) stopped = running.text->update(answer.new_ids) || stopped;
    if (stopped) answer.finish_reason = FinishReason::stop;
    return stopped || std::ssize(answer.new_ids) >= running.limit;
}

std::int32_t choose(Running& running, std::span<float> logits, const GenerationConfig& config) {
    RandomStream stream({.seed = config.seed,
                         .purpose = Purpose::generation,
                         .client = running.prompt.record,
                         .round = 0,
                         .step = static_cast<std::uint32_t>(running.answer.new_ids.size())});
    return next_token(logits, running.context, config.sampling, stream.uniform());
}

}  // namespace

std::string_view to_string(FinishReason reason) {
    return reason == FinishReason::stop ? "stop" : "length";
}

Generator::Generator(const ModelConfig& model, Decoder& decoder, Backend& backend,
                     const Tokenizer* tokenizer, std::span<const float> x, GenerationConfig config)
    : model_(model),
      decoder_(decoder),
      backend_(backend),
      tokenizer_(tokenizer),
      config_(std::move(config)) {
    if (tokenizer == nullptr && !config_.stop_strings.empty()) {
        throw InputError({.what = "without a tokenizer an answer has no text to find a stop "
                                  "string in",
                          .where = "--stop-strings",
                          .remedy = "leave them out, or give --tokenizer FOLDER"});
    }
    if (x.empty()) return;
    adapter_ = DeviceBuffer(backend, x.size_bytes());
    backend.upload(adapter_.data(), std::as_bytes(x));
    slots_.push_back({.x = adapter_.floats()});
    decoder.load(adapter_.floats());
}

bool is_answerable(const Prompt& prompt, const ModelConfig& model) {
    return !prompt.ids.empty() && std::ssize(prompt.ids) < model.max_positions;
}

void Generator::check(std::span<const Prompt> prompts) const {
    std::vector<Fault> faults;
    for (const Prompt& prompt : prompts) {
        if (is_answerable(prompt, model_)) continue;
        if (faults.size() == most_faults) break;
        faults.push_back(
            prompt.ids.empty()
                ? Fault{.what = "the prompt has no token",
                        .where = fmt::format("prompt {} (the first is 0)", prompt.record),
                        .remedy = "give some text: this tokenizer puts nothing before it"}
                : Fault{.what = fmt::format("the prompt has {} tokens, and the model has {} "
                                            "positions for it and its answer",
                                            prompt.ids.size(), model_.max_positions),
                        .where = fmt::format("prompt {} (the first is 0)", prompt.record),
                        .remedy = "shorten it, or take a model with a larger "
                                  "max_position_embeddings"});
    }
    if (!faults.empty()) throw InputError(std::move(faults));
}

std::vector<Answer> Generator::run(std::span<const Prompt> prompts, const OnText* on_text) {
    check(prompts);
    std::vector<Running> all;
    std::vector<std::int64_t> capacity, active(prompts.size());
    for (const Prompt& prompt : prompts) {
        const std::int64_t length = std::ssize(prompt.ids);
        const std::int64_t limit = std::min(config_.max_new_tokens, model_.max_positions - length);
        capacity.push_back(length + limit);
        all.push_back({prompt, limit, prompt.ids, std::nullopt, {}});
        if (tokenizer_ != nullptr)
            all.back().text.emplace(*tokenizer_, prompt.ids, config_.stop_strings);
    }
    KvCache cache(model_, backend_, decoder_.activation_dtype(), capacity);
    std::iota(active.begin(), active.end(), std::int64_t{0});
    const auto vocab = static_cast<std::size_t>(model_.vocab_size);
    while (!active.empty()) {
        PackedBatch batch;
        for (const std::int64_t i : active) {
            add_sequence(batch, all[static_cast<std::size_t>(i)].context, cache.length(i));
        }
        std::vector<float> logits = decoder_.extend(batch, slots_, cache, active);
        std::vector<std::int64_t> unfinished;
        for (std::size_t row = 0; row < active.size(); ++row) {
            Running& running = all[static_cast<std::size_t>(active[row])];
            const std::int32_t token =
                choose(running, std::span(logits).subspan(row * vocab, vocab), config_);
            const bool ended = accept(running, token, config_);
            if (!ended) unfinished.push_back(active[row]);
            if (on_text == nullptr || !running.text) continue;
            (*on_text)(ended ? running.text->take_rest() : running.text->take_settled());
        }
        active = std::move(unfinished);
    }
    std::vector<Answer> answers;
    for (Running& running : all) {
        if (running.text) running.answer.text = running.text->text();
        answers.push_back(std::move(running.answer));
    }
    return answers;
}

std::vector<Answer> Generator::answer(std::span<const Prompt> prompts) {
    return run(prompts, nullptr);
}

Answer Generator::answer(const Prompt& prompt, const OnText& on_text) {
    return run({&prompt, 1}, &on_text).front();
}

std::vector<Answer> Generator::answer(const Communicator& comm, std::span<const Prompt> prompts,
                                      int batch_size) {
    const auto batch = static_cast<std::size_t>(batch_size);
    ByteWriter mine;
    comm.together("generate", [&] {
        check(prompts);
        for (std::size_t block = 0; block * batch < prompts.size(); ++block) {
            if (block % static_cast<std::size_t>(comm.size()) !=
                static_cast<std::size_t>(comm.rank())) {
                continue;
            }
            const std::size_t first = block * batch;
            const auto part = prompts.subspan(first, std::min(batch, prompts.size() - first));
            for (const Answer& each : answer(part)) {
                mine.put_all(std::span<const std::int32_t>(each.new_ids));
                mine.put(each.text).put(each.finish_reason);
            }
        }
    });
    const std::vector<Bytes> parts = comm.all_gather(mine.take());
    std::vector<ByteReader> readers(parts.begin(), parts.end());
    std::vector<Answer> answers(prompts.size());
    for (std::size_t i = 0; i < answers.size(); ++i) {
        ByteReader& reader = readers[i / batch % readers.size()];
        answers[i].new_ids = reader.get_all<std::int32_t>();
        answers[i].text = reader.get_text();
        answers[i].finish_reason = reader.get<FinishReason>();
    }
    return answers;
}

}  // namespace fedit
