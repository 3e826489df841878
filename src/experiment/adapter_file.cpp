// experiment/adapter_file.cpp: tells a PEFT folder from a checkpoint.
#include "fedit/experiment/adapter_file.h"

#include <algorithm>

#include "fedit/core/error.h"
#include "fedit/experiment/config.h"
#include "fedit/model/dense.h"

namespace fedit {

namespace {

/// Whether the checkpoint's layout is one that this model has.
bool fits(const Checkpoint& checkpoint, const ModelConfig& model) {
    const Layout& layout = checkpoint.layout;
    if (!is_dense(layout)) return layout == make_lora_layout(model, checkpoint.lora);
    const bool biases_alone =
        std::all_of(layout.modules.begin(), layout.modules.end(),
                    [](const Module& module) { return module.name.ends_with(".bias"); });
    return layout == make_dense_layout(model, biases_alone ? Tune::bitfit : Tune::full);
}

}  // namespace

void require_averaged(const Checkpoint& checkpoint, const std::filesystem::path& path) {
    Config run;
    apply_ini(run, Command::train, checkpoint.log.facts.configuration, path.string());
    if (run.mode != "local") return;
    throw InputError({.what = "the run was local: each client has an adapter of its own, and the "
                              "checkpoint holds none of them",
                      .where = path.string(),
                      .remedy = "name a client's folder, for example RUN/adapter/client_000000"});
}

PeftAdapter read_adapter(const std::filesystem::path& path, const ModelConfig& model) {
    if (!std::filesystem::exists(path)) {
        throw InputError({.what = "there is no adapter",
                          .where = path.string(),
                          .remedy = "give a PEFT folder (adapter_config.json and "
                                    "adapter_model.safetensors), for example RUN/adapter, or a "
                                    "checkpoint, RUN/checkpoints/round_000005.h5"});
    }
    if (std::filesystem::is_directory(path)) return read_peft(path, model);
    Checkpoint checkpoint = Checkpoint::read(path);
    require_averaged(checkpoint, path);
    if (!fits(checkpoint, model)) {
        throw InputError({.what = "the checkpoint belongs to a model of another shape",
                          .where = path.string(),
                          .remedy = "give the model that the run was started with"});
    }
    return {std::move(checkpoint.lora), std::move(checkpoint.layout), std::move(checkpoint.x)};
}

}  // namespace fedit
