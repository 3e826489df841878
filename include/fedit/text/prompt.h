// text/prompt.h: prompt templates in Shepherd's JSON form.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fedit {

/// "prompt_input" (with {instruction} and {input}), "prompt_no_input" (with {instruction}),
/// "response_split", "description". Only these placeholders are replaced, once each, and text that a
/// record brings is never searched for placeholders.
class PromptTemplate {
public:
    /// Throws InputError for a missing field or placeholder.
    static PromptTemplate load(const std::filesystem::path& path);
    /// The template used when none is given: shipped with the program as text, not as a file.
    static PromptTemplate built_in();

    std::string prompt(std::string_view instruction, std::string_view input) const;
    const std::string& response_split() const { return response_split_; }
    const std::string& fingerprint() const { return fingerprint_; }  ///< SHA-256, hex

private:
    PromptTemplate() = default;
    std::string with_input_, without_input_, response_split_, fingerprint_;
};

}  // namespace fedit
