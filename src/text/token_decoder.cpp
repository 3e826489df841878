// text/token_decoder.cpp: tokens' spellings back to text.
#include "text/token_decoder.h"

#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "text/json_checks.h"
#include "text/utf8.h"

namespace fedit {
namespace {

constexpr std::int64_t max_stripped = 1 << 20;

void replace_all(std::string& text, std::string_view pattern, std::string_view content) {
    for (std::size_t at = text.find(pattern); at != std::string::npos;
         at = text.find(pattern, at + content.size())) {
        text.replace(at, pattern.size(), content);
    }
}

// The byte that "<0x0A>" stands for; nothing if `token` is no byte token.
std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
    unsigned value = 0;
    const char* end = token.data() + 5;
    const auto [stopped, error] = std::from_chars(token.data() + 3, end, value, 16);
    if (error != std::errc{} || stopped != end) return std::nullopt;
    return static_cast<char>(value);
}

void append_bytes(std::vector<std::string>& out, std::string& bytes) {
    if (bytes.empty()) return;
    if (first_invalid_utf8(bytes) == bytes.size()) {
        out.push_back(bytes);
    } else {
        out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");  // U+FFFD
    }
    bytes.clear();
}

std::vector<std::string> join_byte_tokens(const std::vector<std::string>& tokens) {
    std::vector<std::string> out;
    std::string bytes;
    for (const std::string& token : tokens) {
        if (const auto byte = byte_of(token)) {
            bytes += *byte;
            continue;
        }
        append_bytes(out, bytes);
        out.push_back(token);
    }
    append_bytes(out, bytes);
    return out;
}

std::string join(const std::vector<std::string>& tokens, std::string_view separator) {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        if (i > 0) text += separator;
        text += tokens[i];
    }
    return text;
}

void strip(std::string& text, std::string_view character, std::size_t at_start,
           std::size_t at_end) {
    std::string_view rest = text;
    for (; at_start > 0 && rest.starts_with(character); --at_start) {
        rest.remove_prefix(character.size());
    }
    for (; at_end > 0 && rest.ends_with(character); --at_end) rest.remove_suffix(character.size());
    text = std::string(rest);
}

std::size_t strip_count(const Json& json) {
    return static_cast<std::size_t>(json.as_int(0, max_stripped));
}

}  // namespace

TokenDecoder TokenDecoder::from_json(const Json& json) {
    TokenDecoder decoder;
    if (json.is_null()) {
        decoder.join_with_spaces_ = true;
    } else {
        decoder.add(json);
    }
    return decoder;
}

void TokenDecoder::add(const Json& json) {
    const std::string type = json["type"].as_string();
    if (type == "Sequence") {
        const Json parts = json["decoders"];
        for (std::size_t i = 0; i < parts.size(); ++i) add(parts[i]);
    } else if (type == "Replace") {
        steps_.push_back({.kind = Kind::replace,
                          .pattern = replace_pattern(json),
                          .content = json["content"].as_string()});
    } else if (type == "ByteFallback") {
        steps_.push_back({.kind = Kind::byte_fallback});
    } else if (type == "Fuse") {
        steps_.push_back({.kind = Kind::fuse});
    } else if (type == "Strip") {
        const std::string content = json["content"].as_string();
        if (content.empty() || utf8_length(content[0]) != content.size()) {
            refuse(json["content"], "supported: one character");
        }
        steps_.push_back({.kind = Kind::strip,
                          .content = content,
                          .at_start = strip_count(json["start"]),
                          .at_end = strip_count(json["stop"])});
    } else {
        refuse(json["type"],
               "supported decoders: null, Sequence, Replace, ByteFallback, Fuse, Strip");
    }
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
    if (join_with_spaces_) return join(tokens, " ");
    for (const Step& step : steps_) {
        switch (step.kind) {
            case Kind::replace:
                for (std::string& token : tokens) replace_all(token, step.pattern, step.content);
                break;
            case Kind::byte_fallback:
                tokens = join_byte_tokens(tokens);
                break;
            case Kind::fuse:
                tokens = {join(tokens, "")};
                break;
            case Kind::strip:
                for (std::string& token : tokens) {
                    strip(token, step.content, step.at_start, step.at_end);
                }
                break;
        }
    }
    return join(tokens, "");
}

}  // namespace fedit
