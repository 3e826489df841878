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
    /// The answer to `prompt`. `stop_strings` must outlive this.
    AnswerText(const Tokenizer& tokenizer, std::span<const std::int32_t> prompt,
               std::span<const std::string> stop_strings);

    /// Takes in the answer's tokens so far. True if a stop string ends in its text now; it may have
    /// begun in the prompt, and the space counts that the text loses in front (as in Transformers).
    bool update(std::span<const std::int32_t> ids);
    /// Text that no later token can change and that was not taken before.
    std::string take_settled();
    /// What is left when the answer has ended.
    std::string take_rest();
    /// The whole text, up to the stop string.
    std::string text() const { return whole_.substr(begin_); }

private:
    std::string take(std::size_t end);

    const Tokenizer& tokenizer_;
    std::span<const std::string> stop_strings_;
    std::vector<std::int32_t> prompt_end_;  ///< as many tokens as a stop string may begin in
    std::string prompt_text_;               ///< theirs
    std::string whole_;                     ///< that text and the answer's
    std::size_t begin_ = 0;                 ///< of the answer's text in it
    std::size_t taken_ = 0;
};

}  // namespace fedit
