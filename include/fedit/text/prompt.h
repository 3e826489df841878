// text/prompt.h: prompt templates in Shepherd's JSON form.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fedit {

class Json;

/// A stretch of a template: literal text, or a placeholder's name without its braces.
struct PromptPiece {
    std::string text;
    bool is_placeholder = false;
};

/// "prompt_input" (with {instruction} and {input}), "prompt_no_input" (with {instruction}) and
/// "response_split"; other fields, as "description", are not read. Every occurrence of a
/// placeholder is replaced; {{ and }} stand for one brace, as in Python's str.format. Text that a
/// record brings is never searched for placeholders.
class PromptTemplate {
public:
    /// Throws InputError with all missing fields, or all missing and unknown placeholders.
    static PromptTemplate load(const std::filesystem::path& path);
    /// The template used when none is given: shipped with the program as text, not as a file.
    static PromptTemplate built_in();

    /// The text before the response; an empty `input` takes "prompt_no_input".
    std::string prompt(std::string_view instruction, std::string_view input) const;
    const std::string& response_split() const { return response_split_; }
    const std::string& fingerprint() const { return fingerprint_; }  ///< SHA-256, hex

private:
    PromptTemplate() = default;
    static PromptTemplate from_json(const Json& json);

    std::vector<PromptPiece> with_input_, without_input_;
    std::string response_split_, fingerprint_;
};

}  // namespace fedit
