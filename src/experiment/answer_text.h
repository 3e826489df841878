// experiment/answer_text.h: an answer's text as its tokens come: what is safe to show, and where a
// stop string ends it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fedit/text/tokenizer.h"

namespace fedit {

class AnswerText {
public:
    /// `stop_strings` must outlive this.
    AnswerText(const Tokenizer& tokenizer, std::span<const std::string> stop_strings)
        : tokenizer_(tokenizer), stop_strings_(stop_strings) {}

    /// Takes in the answer's tokens so far. True if its text has a stop string now.
    bool update(std::span<const std::int32_t> ids);
    /// Text that no later token can change and that was not taken before.
    std::string take_settled();
    /// What is left when the answer has ended.
    std::string take_rest();
    /// The whole text, up to the stop string.
    const std::string& text() const { return text_; }

private:
    std::string take(std::size_t end);

    const Tokenizer& tokenizer_;
    std::span<const std::string> stop_strings_;
    std::string text_;
    std::size_t taken_ = 0;
};

}  // namespace fedit
