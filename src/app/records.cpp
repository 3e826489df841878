// app/records.cpp: reads and encodes one set of records.
#include "app/records.h"

#include <algorithm>
#include <filesystem>

#include "fedit/core/error.h"

namespace fedit {

namespace fs = std::filesystem;

std::optional<Tokenizer> read_tokenizer(const Config& config, Wanted wanted) {
    const fs::path folder = config.tokenizer.empty() ? config.model : config.tokenizer;
    const bool there = !config.tokenizer.empty() || fs::exists(folder / "tokenizer.json");
    if (wanted == Wanted::for_texts || (wanted == Wanted::if_there && !there)) return std::nullopt;
    return Tokenizer::load(folder);
}

RecordSet read_record_set(const Config& config, Wanted tokenizer) {
    const fs::path path = held_out_file(config.data);
    if (path != config.data && !fs::exists(path))
        throw InputError({.what = "the folder has no held-out records",
                          .where = path.string(),
                          .remedy = "give --data a file of records; of a folder, its "
                                    "global_test.json is read"});
    std::vector<Record> records = read_records(path);
    const bool tokenised = std::all_of(records.begin(), records.end(),
                                       [](const Record& record) { return record.tokenised(); });
    return {std::move(records), read_tokenizer(config, tokenised ? tokenizer : Wanted::always),
            prompt_template(config)};
}

EncodedRecords encode(const RecordSet& set, const Config& config, const ModelConfig& model) {
    return encode_records(set.records, set.tokenizer ? &*set.tokenizer : nullptr, set.prompt,
                          encode_options(config), model.vocab_size);
}

}  // namespace fedit
