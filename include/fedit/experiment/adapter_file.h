// experiment/adapter_file.h: an adapter from wherever one is kept.
#pragma once

#include <filesystem>

#include "fedit/model/peft.h"

namespace fedit {

/// Reads a PEFT folder, or the global adapter of a checkpoint file of ours. Throws InputError if it
/// is neither, is damaged, or does not fit the model.
PeftAdapter read_adapter(const std::filesystem::path& path, const ModelConfig& model);

}  // namespace fedit
