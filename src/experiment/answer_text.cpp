// experiment/answer_text.cpp: stop strings, and text held back until it is settled.
#include "experiment/answer_text.h"

#include <algorithm>

namespace fedit {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD: perhaps half a character

/// The longest end of `text` that `stop` begins with.
std::size_t begun(std::string_view text, std::string_view stop) {
    std::size_t length = std::min(text.size(), stop.size() - 1);
    while (length > 0 && !text.ends_with(stop.substr(0, length))) --length;
    return length;
}

}  // namespace

bool AnswerText::update(std::span<const std::int32_t> ids) {
    text_ = tokenizer_.decode(ids);
    std::size_t end = text_.size();
    for (const std::string& stop : stop_strings_) end = std::min(end, text_.find(stop));
    const bool stopped = end < text_.size();
    text_.resize(end);
    return stopped;
}

std::string AnswerText::take_settled() {
    std::string_view settled = text_;
    std::size_t held = 0;
    for (const std::string& stop : stop_strings_) held = std::max(held, begun(settled, stop));
    settled.remove_suffix(held);
    while (settled.ends_with(replacement)) settled.remove_suffix(replacement.size());
    return take(settled.size());
}

std::string AnswerText::take_rest() {
    return take(text_.size());
}

std::string AnswerText::take(std::size_t end) {
    if (end <= taken_) return {};
    std::string part = text_.substr(taken_, end - taken_);
    taken_ = end;
    return part;
}

}  // namespace fedit
