// tests/fuzz/tokenizer_model_fuzz.cpp: tokenizer.model; an input that begins with a brace is
// tokenizer_config.json, a zero byte, and then the model.
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fedit::fuzz;
    static const InputFolder folder;
    return judge([&] {
        std::string_view model = text_of(data, size), config;
        if (model.starts_with('{')) std::tie(config, model) = halves(model);
        folder.write("tokenizer.model", model);
        folder.remove("tokenizer_config.json");
        if (!config.empty()) folder.write("tokenizer_config.json", config);
        use(fedit::Tokenizer::load(folder.path()));
    });
}
