// model/peft.h: PEFT adapter folders in and out.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "fedit/io/atomic_file.h"
#include "fedit/model/adapter.h"

namespace fedit {

/// An adapter as a PEFT folder holds it.
struct PeftAdapter {
    LoraConfig config;
    Layout layout;
    std::vector<float> x;
};

/// Reads adapter_config.json and adapter_model.safetensors. A PEFT feature that is not honoured
/// (DoRA, modules_to_save, bias, layers_to_transform, ...) is an error that names it; so are
/// missing, surplus or misshapen tensors and non-finite values. All faults at once.
PeftAdapter read_peft(const std::filesystem::path& folder, const ModelConfig& model);

/// The folder's files, loadable by PEFT as they lie.
std::vector<AtomicFile::Member> encode_peft(const Layout& layout, std::span<const float> x,
                                            const LoraConfig& lora, const std::string& base_model);

}  // namespace fedit
