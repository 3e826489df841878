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

AnswerText::AnswerText(const Tokenizer& tokenizer, std::span<const std::int32_t> prompt,
                       std::span<const std::string> stop_strings)
    : tokenizer_(tokenizer), stop_strings_(stop_strings) {
    std::size_t tokens = 0;
    for (const std::string& stop : stop_strings) tokens = std::max(tokens, stop.size());
    const auto end = prompt.last(std::min(tokens, prompt.size()));
    prompt_end_.assign(end.begin(), end.end());
    prompt_text_ = tokenizer.decode(end);
}

bool AnswerText::update(std::span<const std::int32_t> ids) {
    const std::string text = tokenizer_.decode(ids);
    std::size_t answer = prompt_text_.size();
    std::vector<std::int32_t> all = prompt_end_;
    all.insert(all.end(), ids.begin(), ids.end());
    whole_ = prompt_end_.empty() ? text : tokenizer_.decode(all);
    // Where half a character of the prompt became a whole one, the answer is looked at alone.
    if (!whole_.starts_with(prompt_text_) || !whole_.substr(answer).ends_with(text)) {
        whole_ = text;
        answer = 0;
    }
    begin_ = whole_.size() - text.size();
    std::size_t end = whole_.size();
    for (const std::string& stop : stop_strings_) {
        end = std::min(end, whole_.find(stop, answer - std::min(answer, stop.size() - 1)));
    }
    const bool stopped = end < whole_.size();
    whole_.resize(std::max(end, begin_));
    return stopped;
}

std::string AnswerText::take_settled() {
    std::string_view settled = whole_;
    std::size_t held = 0;
    for (const std::string& stop : stop_strings_) held = std::max(held, begun(settled, stop));
    settled.remove_suffix(std::min(held, settled.size() - begin_));
    settled.remove_prefix(begin_);
    while (settled.ends_with(replacement)) settled.remove_suffix(replacement.size());
    return take(settled.size());
}

std::string AnswerText::take_rest() {
    return take(whole_.size() - begin_);
}

std::string AnswerText::take(std::size_t end) {
    if (end <= taken_) return {};
    std::string part = whole_.substr(begin_ + taken_, end - taken_);
    taken_ = end;
    return part;
}

}  // namespace fedit
