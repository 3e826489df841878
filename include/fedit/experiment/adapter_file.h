// experiment/adapter_file.h: an adapter from wherever one is kept.
#pragma once

#include <filesystem>

#include "fedit/experiment/checkpoint.h"
#include "fedit/model/peft.h"

namespace fedit {

/// Reads a PEFT folder, or the global adapter of a checkpoint file of ours. Throws InputError if it
/// is neither, is damaged, does not fit the model, or is of a run whose clients are not averaged.
PeftAdapter read_adapter(const std::filesystem::path& path, const ModelConfig& model);

/// Throws InputError if the checkpoint is of a run of --mode local: it holds only what all clients
/// started from.
void require_averaged(const Checkpoint& checkpoint, const std::filesystem::path& path);

}  // namespace fedit
