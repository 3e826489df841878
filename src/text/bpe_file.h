// text/bpe_file.h: reads the "model" of a tokenizer.json.
#pragma once

#include "fedit/io/json.h"
#include "text/bpe.h"

namespace fedit {

/// What the pieces that come to a model are spelled in: any characters, or the 256 of the byte
/// alphabet.
enum class Spelling { characters, bytes };

/// Throws InputError for any other model than BPE, for a setting that is not honoured, for a merge
/// that the vocabulary has no token for, and for characters that would vanish.
BpeTables read_bpe(const Json& model, Spelling spelling);

}  // namespace fedit
