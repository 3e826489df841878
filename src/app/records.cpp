// app/records.cpp: reads and encodes one set of records.
#include "app/records.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "fedit/core/error.h"

namespace fedit {

EncodedRecords read_encoded(const Config& config, const ModelConfig& model) {
    namespace fs = std::filesystem;
    fs::path path = config.data;
    if (fs::is_directory(path)) path /= "global_test.json";
    const std::vector<Record> records = read_records(path);
    const bool tokenised = std::all_of(records.begin(), records.end(),
                                       [](const Record& record) { return record.tokenised(); });
    std::optional<Tokenizer> tokenizer;
    if (!tokenised) {
        tokenizer = Tokenizer::load(config.tokenizer.empty() ? config.model : config.tokenizer);
    }
    return encode_records(records, tokenizer ? &*tokenizer : nullptr, prompt_template(config),
                          encode_options(config), model.vocab_size);
}

}  // namespace fedit
