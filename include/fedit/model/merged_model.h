// model/merged_model.h: a base model with an adapter added to its weights, or with its own weights
// trained, as a Hugging Face folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "fedit/io/atomic_file.h"
#include "fedit/model/hf_folder.h"
#include "fedit/model/peft.h"

namespace fedit {

/// How a model folder is stored.
struct SaveOptions {
    std::optional<StoredType>
        type{};  ///< f32, bf16 or f16 for all tensors; nothing: as in the base
    std::int64_t shard_bytes = std::int64_t{5} << 30;  ///< no file holds more, but for one tensor
};

/// Writes config.json, the weights W + scale B A (computed in double, rounded once; those of a
/// dense layout as they are) in one file or in shards with their index, and the base's tokenizer
/// files. `folder` is there whole or not at all; one shard is in memory at a time. Throws
/// InputError for a weight that the type cannot hold, and what AtomicFile::write_folder throws.
void write_merged_model(const HfFolder& base, const PeftAdapter& adapter,
                        const SaveOptions& options, const AtomicFile& files,
                        const std::filesystem::path& folder);

}  // namespace fedit
