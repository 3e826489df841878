// experiment/generation.h: answers of a model to prompts, in batches, with cached keys and values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/comm/communicator.h"
#include "fedit/experiment/config.h"
#include "fedit/model/decoder.h"
#include "fedit/model/sampler.h"
#include "fedit/text/tokenizer.h"

namespace fedit {

/// How answers are made and where they end.
struct GenerationConfig {
    Sampling sampling{};
    std::uint64_t seed = 0;
    std::int64_t max_new_tokens = 256;
    std::vector<std::int32_t> end_tokens{};   ///< any of these ends an answer and belongs to it
    std::vector<std::string> stop_strings{};  ///< text that ends an answer; is cut off its text
};

/// What is answered. `record` names the random stream: answers depend on it, not on who is beside.
struct Prompt {
    std::vector<std::int32_t> ids{};
    std::uint32_t record = 0;
};

enum class FinishReason : std::uint8_t { stop, length };
std::string_view to_string(FinishReason reason);

struct Answer {
    std::vector<std::int32_t> new_ids;
    std::string text;  ///< what Tokenizer::decode makes of new_ids, up to the stop string
    FinishReason finish_reason = FinishReason::length;
};

/// Receives further text of an answer as it comes, whole characters only.
using OnText = std::function<void(std::string_view)>;

/// Answers with one model; all references must outlive it.
class Generator {
public:
    /// `tokenizer` may be null: answers then have no text and stop strings are an InputError. `x`
    /// empty: the base alone. The decoder has the layout of `x`.
    Generator(const ModelConfig& model, Decoder& decoder, Backend& backend,
              const Tokenizer* tokenizer, std::span<const float> x, GenerationConfig config);

    /// Throws InputError naming every prompt (at most 20) that is empty or leaves no position for
    /// an answer. The others below do too.
    void check(std::span<const Prompt> prompts) const;
    /// Answers to all prompts, computed side by side.
    std::vector<Answer> answer(std::span<const Prompt> prompts);
    /// The answer to one prompt; `on_text` gets its text in parts as it grows.
    Answer answer(const Prompt& prompt, const OnText& on_text);
    /// Collective. The same, `batch_size` prompts at a time, dealt to the ranks in blocks; all
    /// ranks return all answers, in order, the same on any number of ranks.
    std::vector<Answer> answer(const Communicator& comm, std::span<const Prompt> prompts,
                               int batch_size);

private:
    std::vector<Answer> run(std::span<const Prompt> prompts, const OnText* on_text);

    const ModelConfig& model_;
    Decoder& decoder_;
    Backend& backend_;
    const Tokenizer* tokenizer_;
    GenerationConfig config_;
    DeviceBuffer adapter_;
    std::vector<AdapterSlot> slots_;
};

/// Whether a prompt can be answered: it is not empty and leaves a position for a new token.
bool is_answerable(const Prompt& prompt, const ModelConfig& model);

/// Ids of a prompt's text, with what the tokenizer's template puts before it, not behind.
std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text);
/// The prompt of a record: its instruction and input through the template, or, of a tokenised one,
/// the tokens before its first label; plain text has none. `tokenizer` may be null for tokenised
/// records.
std::vector<std::int32_t> prompt_ids(const Record& record, const Tokenizer* tokenizer,
                                     const PromptTemplate& prompt);

/// Tokens that end an answer: eos_token_id (one or a list) of generation_config.json, else of
/// config.json, and the tokenizer's EOS, which training puts behind a response. Throws InputError
/// for an id outside the vocabulary.
std::vector<std::int32_t> end_tokens(const std::filesystem::path& model_folder,
                                     const Tokenizer* tokenizer, std::int64_t vocab_size);

/// Settings of checked options; end tokens as above.
GenerationConfig generation_config(const Config& config, const Tokenizer* tokenizer,
                                   std::int64_t vocab_size);

/// {"prompt_ids", "new_ids", "text", "finish_reason": "stop" | "length"}; text is null without a
/// tokenizer.
std::string to_json(const Prompt& prompt, const Answer& answer, const Tokenizer* tokenizer);

}  // namespace fedit
