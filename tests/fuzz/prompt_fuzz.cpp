// tests/fuzz/prompt_fuzz.cpp: a prompt template and, behind a zero byte, the texts that fill it.
#include "fedit/text/prompt.h"

#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fedit::fuzz;
    static const InputFolder folder;
    return judge([&] {
        const auto [text, texts] = halves(text_of(data, size));
        const auto [instruction, input] = halves(texts);
        const auto prompt = fedit::PromptTemplate::load(folder.write("template.json", text));
        for (const std::string_view each : {std::string_view(), input}) {
            const std::string filled = prompt.prompt(instruction, each);
            require(filled.find(instruction) != std::string::npos,
                    "a prompt holds the instruction");
            require(filled.find(each) != std::string::npos, "a prompt holds the input");
        }
        require(prompt.fingerprint().size() == 64, "a template has a SHA-256");
    });
}
