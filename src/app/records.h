// app/records.h: the records that evaluate and bench work on.
#pragma once

#include "fedit/experiment/config.h"
#include "fedit/model/model_config.h"
#include "fedit/text/dataset.h"

namespace fedit {

/// --data, encoded: a file, or the global_test.json of a folder. The tokenizer is --tokenizer, else
/// the model's folder, and is read only if a record is not tokenised yet. Throws InputError.
EncodedRecords read_encoded(const Config& config, const ModelConfig& model);

}  // namespace fedit
