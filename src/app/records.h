// app/records.h: the records that evaluate, generate and bench work on.
#pragma once

#include <optional>
#include <vector>

#include "fedit/experiment/config.h"
#include "fedit/model/model_config.h"
#include "fedit/text/dataset.h"

namespace fedit {

/// Records and what turns them into tokens and back.
struct RecordSet {
    std::vector<Record> records;
    std::optional<Tokenizer> tokenizer;
    PromptTemplate prompt = PromptTemplate::built_in();
};

/// When the tokenizer is read: only if a record is text; also if there is one; always.
enum class Wanted { for_texts, if_there, always };
/// The tokenizer of --tokenizer, else of the model's folder. Throws InputError.
std::optional<Tokenizer> read_tokenizer(const Config& config, Wanted wanted);

/// --data: a file, or the global_test.json of a folder. Throws InputError.
RecordSet read_record_set(const Config& config, Wanted tokenizer);

/// The records, encoded. Throws InputError.
EncodedRecords encode(const RecordSet& set, const Config& config, const ModelConfig& model);

}  // namespace fedit
