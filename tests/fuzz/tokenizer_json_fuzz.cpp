// tests/fuzz/tokenizer_json_fuzz.cpp: tokenizer.json and, behind a zero byte,
// tokenizer_config.json.
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fedit::fuzz;
    static const InputFolder folder;
    return judge([&] {
        const auto [tokenizer, config] = halves(text_of(data, size));
        folder.write("tokenizer.json", tokenizer);
        folder.remove("tokenizer_config.json");
        if (!config.empty()) folder.write("tokenizer_config.json", config);
        use(fedit::Tokenizer::load(folder.path()));
    });
}
