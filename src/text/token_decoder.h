// text/token_decoder.h: tokens' spellings back to text, as they come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fedit/io/json.h"
#include "text/json_checks.h"

namespace fedit {

/// tokenizer.json's "decoder": Replace, ByteFallback, Fuse, Strip and ByteLevel in sequence.
class TokenDecoder {
public:
    /// `json` may be null: then tokens are joined by spaces. Throws InputError for other types.
    static TokenDecoder from_json(const Json& json);
    /// U+2581 becomes a space, and with `prefix` one space in front is dropped.
    static TokenDecoder of_sentencepiece(bool prefix);

    class Stream;

private:
    enum class Kind { replace, byte_fallback, fuse, strip, byte_level, join_with_spaces };
    struct Step {
        Kind kind;
        std::string pattern{}, content{};      // replace; strip: `content` is one character
        std::size_t at_start = 0, at_end = 0;  // strip: at most so many
        bool fused = false;                    // what comes is one token in parts
    };
    void add(const Json& json, StepBudget& budget);
    void add(Step step);

    std::vector<Step> steps_;
    bool fused_ = false;  // behind the last step
};

/// Decodes one sequence of tokens. What it returns are whole characters; all of it together is what
/// the library that defines the format makes of all tokens at once. The decoder must outlive it.
class TokenDecoder::Stream {
public:
    explicit Stream(const TokenDecoder& decoder);
    /// The text that is certain once `token` has come.
    std::string push(std::string_view token);
    /// The rest; nothing may be pushed behind it.
    std::string finish();

private:
    /// What a step remembers between tokens.
    struct State {
        std::string held{};        // bytes or text that may yet become something else
        std::size_t stripped = 0;  // characters dropped at the start
        bool started = false;      // a token has come
        bool past_start = false;   // nothing more is dropped at the start
    };
    void push_to(std::size_t step, std::string_view token, std::string& out);
    void replace(std::size_t step, std::string_view token, std::string& out);
    void join_bytes(std::size_t step, std::string_view token, std::string& out);
    void flush_bytes(std::size_t step, std::string& out);
    void strip(std::size_t step, std::string_view token, std::string& out);
    void read_bytes(std::size_t step, std::string_view token, std::string& out);

    const TokenDecoder& decoder_;
    std::vector<State> states_;  // one a step
};

}  // namespace fedit
