// text/token_decoder.cpp: tokens' spellings back to text, as they come.
#include "text/token_decoder.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace fedit {
namespace {

constexpr std::int64_t max_stripped = 1 << 20;
constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

// The byte that "<0x0A>" stands for; nothing if `token` is no byte token.
std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
    unsigned value = 0;
    const char* end = token.data() + 5;
    const auto [stopped, error] = std::from_chars(token.data() + 3, end, value, 16);
    if (error != std::errc{} || stopped != end) return std::nullopt;
    return static_cast<char>(value);
}

// The bytes that a token of the byte alphabet spells; a token with any other character is itself.
std::string spelled_bytes(std::string_view token) {
    std::string bytes;
    for (std::size_t at = 0; at < token.size(); at += utf8_length(token[at])) {
        const auto byte = spelled_byte(code_point_at(token, at));
        if (!byte) return std::string(token);
        bytes += static_cast<char>(*byte);
    }
    return bytes;
}

std::string replaced(std::string_view text, std::string_view pattern, std::string_view content) {
    std::string result;
    std::size_t done = 0;
    for (std::size_t at = text.find(pattern); at != std::string_view::npos;
         at = text.find(pattern, done)) {
        result.append(text.substr(done, at - done)).append(content);
        done = at + pattern.size();
    }
    return result.append(text.substr(done));
}

std::size_t strip_count(const Json& json) {
    return static_cast<std::size_t>(json.as_int(0, max_stripped));
}

// How many of `character` `text` ends with, at most `most`; in bytes.
std::size_t trailing(std::string_view text, std::string_view character, std::size_t most) {
    std::size_t bytes = 0;
    for (; most > 0 && text.ends_with(character); --most) {
        text.remove_suffix(character.size());
        bytes += character.size();
    }
    return bytes;
}

}  // namespace

TokenDecoder TokenDecoder::from_json(const Json& json) {
    TokenDecoder decoder;
    if (json.is_null()) {
        decoder.add(Step{.kind = Kind::join_with_spaces});
    } else {
        StepBudget budget;
        decoder.add(json, budget);
    }
    return decoder;
}

TokenDecoder TokenDecoder::of_sentencepiece(bool prefix) {
    TokenDecoder decoder;
    decoder.add(Step{.kind = Kind::replace, .pattern = "\u2581", .content = " "});
    decoder.add(Step{.kind = Kind::byte_fallback});
    decoder.add(Step{.kind = Kind::fuse});
    if (prefix) decoder.add(Step{.kind = Kind::strip, .content = " ", .at_start = 1});
    return decoder;
}

void TokenDecoder::add(Step step) {
    step.fused = fused_;
    fused_ = fused_ || step.kind == Kind::fuse || step.kind == Kind::byte_level;
    steps_.push_back(std::move(step));
}

void TokenDecoder::add(const Json& json, StepBudget& budget) {
    const std::string& type = json["type"].as_string();
    if (fused_ && (type == "ByteFallback" || type == "ByteLevel")) {
        refuse(json["type"], "supported: ByteFallback and ByteLevel before tokens are joined");
    }
    if (type == "Sequence") {
        const Json parts = json["decoders"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i], budget);
        return;
    }
    if (type == "Replace") {
        Step step{.kind = Kind::replace,
                  .pattern = replace_pattern(json),
                  .content = json["content"].as_string()};
        budget.add_replacement(json, step.pattern.size(), step.content.size());
        add(std::move(step));
        return;
    }
    budget.add(json);
    if (type == "ByteFallback") {
        add(Step{.kind = Kind::byte_fallback});
    } else if (type == "ByteLevel") {
        add(Step{.kind = Kind::byte_level});
    } else if (type == "Fuse") {
        add(Step{.kind = Kind::fuse});
    } else if (type == "Strip") {
        const std::string& content = json["content"].as_string();
        if (content.empty() || utf8_length(content[0]) != content.size()) {
            refuse(json["content"], "supported: one character");
        }
        add(Step{.kind = Kind::strip,
                 .content = content,
                 .at_start = strip_count(json["start"]),
                 .at_end = strip_count(json["stop"])});
    } else {
        refuse(json["type"],
               "supported decoders: null, Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip");
    }
}

TokenDecoder::Stream::Stream(const TokenDecoder& decoder)
    : decoder_(decoder), states_(decoder.steps_.size()) {}

std::string TokenDecoder::Stream::push(std::string_view token) {
    std::string out;
    push_to(0, token, out);
    return out;
}

std::string TokenDecoder::Stream::finish() {
    std::string out;
    for (std::size_t i = 0; i < states_.size(); ++i) {
        const Step& step = decoder_.steps_[i];
        State& state = states_[i];
        if (step.kind == Kind::byte_fallback) {
            flush_bytes(i, out);
        } else if (step.kind == Kind::byte_level && !state.held.empty()) {
            push_to(i + 1, replacement_character, out);  // a character that never ended
        } else if (step.kind == Kind::replace && !state.held.empty()) {
            push_to(i + 1, std::exchange(state.held, {}), out);
        }
    }
    return out;
}

void TokenDecoder::Stream::push_to(std::size_t step, std::string_view token, std::string& out) {
    if (step == states_.size()) {
        out += token;
        return;
    }
    switch (decoder_.steps_[step].kind) {
        case Kind::replace:
            replace(step, token, out);
            break;
        case Kind::byte_fallback:
            join_bytes(step, token, out);
            break;
        case Kind::fuse:
            push_to(step + 1, token, out);
            break;
        case Kind::strip:
            strip(step, token, out);
            break;
        case Kind::byte_level:
            read_bytes(step, token, out);
            break;
        case Kind::join_with_spaces:
            if (std::exchange(states_[step].started, true)) push_to(step + 1, " ", out);
            push_to(step + 1, token, out);
            break;
    }
}

// In one token that comes in parts, the end of a part may be the begin of a pattern.
void TokenDecoder::Stream::replace(std::size_t step, std::string_view token, std::string& out) {
    const Step& rule = decoder_.steps_[step];
    if (!rule.fused) {
        return push_to(step + 1, replaced(token, rule.pattern, rule.content), out);
    }
    std::string& held = states_[step].held;
    held += token;
    std::string result;
    std::size_t done = 0;
    for (std::size_t at = held.find(rule.pattern); at != std::string::npos;
         at = held.find(rule.pattern, done)) {
        result.append(held, done, at - done).append(rule.content);
        done = at + rule.pattern.size();
    }
    const std::string_view rest = std::string_view(held).substr(done);
    std::size_t keep = std::min(rest.size(), rule.pattern.size() - 1);
    while (!rule.pattern.starts_with(rest.substr(rest.size() - keep))) --keep;
    result.append(rest.substr(0, rest.size() - keep));
    held = std::string(rest.substr(rest.size() - keep));
    if (!result.empty()) push_to(step + 1, result, out);
}

// A run of byte tokens is text if all of it is UTF-8, else U+FFFD for each byte: nothing of it is
// certain before its end.
void TokenDecoder::Stream::join_bytes(std::size_t step, std::string_view token, std::string& out) {
    if (const auto byte = byte_of(token)) {
        states_[step].held += *byte;
        return;
    }
    flush_bytes(step, out);
    push_to(step + 1, token, out);
}

void TokenDecoder::Stream::flush_bytes(std::size_t step, std::string& out) {
    const std::string bytes = std::exchange(states_[step].held, {});
    if (bytes.empty()) return;
    if (first_invalid_utf8(bytes) == bytes.size()) return push_to(step + 1, bytes, out);
    for (std::size_t i = 0; i < bytes.size(); ++i) push_to(step + 1, replacement_character, out);
}

void TokenDecoder::Stream::strip(std::size_t step, std::string_view token, std::string& out) {
    const Step& rule = decoder_.steps_[step];
    State& state = states_[step];
    if (!rule.fused) state = State{};
    while (!state.past_start && state.stripped < rule.at_start && token.starts_with(rule.content)) {
        token.remove_prefix(rule.content.size());
        ++state.stripped;
    }
    if (!token.empty()) state.past_start = true;
    state.held += token;
    const std::size_t keep = trailing(state.held, rule.content, rule.at_end);
    const std::string sure = state.held.substr(0, state.held.size() - keep);
    state.held.erase(0, sure.size());
    // Of a token that is whole, the end is dropped now; of one in parts, when no part follows.
    if (!sure.empty()) push_to(step + 1, sure, out);
}

void TokenDecoder::Stream::read_bytes(std::size_t step, std::string_view token, std::string& out) {
    std::string& held = states_[step].held;
    held += spelled_bytes(token);
    std::string text;
    std::string_view rest = held;
    while (!rest.empty()) {
        const std::size_t invalid = first_invalid_utf8(rest);
        text += rest.substr(0, invalid);
        rest.remove_prefix(invalid);
        if (rest.empty() || is_begun_character(rest)) break;
        rest.remove_prefix(maximal_subpart(rest));
        text += replacement_character;
    }
    held = std::string(rest);
    if (!text.empty()) push_to(step + 1, text, out);
}

}  // namespace fedit
