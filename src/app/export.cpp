// app/export.cpp: `fedit export`: an adapter as a PEFT folder, or merged into its base.
#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <vector>

#include "app/commands.h"
#include "app/new_folder.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/adapter_file.h"
#include "fedit/experiment/checkpoint.h"
#include "fedit/model/dense.h"
#include "fedit/model/merged_model.h"

namespace fedit {
namespace {

namespace fs = std::filesystem;

/// The newest checkpoint of a run's folder; any other path as it is.
fs::path checkpoint_or_folder(const fs::path& path) {
    const RunFolder run{path};
    if (!fs::exists(run.log())) return path;
    std::vector<fs::path> damaged;
    if (const auto newest = newest_checkpoint(run, damaged)) return *newest;
    throw InputError({.what = damaged.empty() ? "the run has no checkpoint yet"
                                              : "every checkpoint of the run is damaged",
                      .where = run.checkpoints().string(),
                      .remedy = "wait for its first round, or name a PEFT folder or a checkpoint"});
}

/// The model that a run was started with.
std::string base_of(const Checkpoint& checkpoint, const fs::path& path) {
    Config before;
    apply_ini(before, Command::train, checkpoint.log.facts.configuration, path.string());
    return before.model;
}

std::int64_t size_of_folder(const fs::path& folder) {
    std::int64_t bytes = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        bytes += static_cast<std::int64_t>(entry.file_size());
    }
    return bytes;
}

void export_adapter(const Context& context, const Config& config, const fs::path& path) {
    if (fs::is_directory(path)) {
        throw InputError({.what = "a PEFT folder needs no export",
                          .where = fmt::format("--adapter {}", path.string()),
                          .remedy = "use it as it lies; --merge makes a whole model of it"});
    }
    const Checkpoint checkpoint = Checkpoint::read(path);
    require_averaged(checkpoint, path);
    if (is_dense(checkpoint.layout)) {
        throw InputError({.what = "the checkpoint holds weights of the base, and no adapter",
                          .where = fmt::format("--adapter {}", path.string()),
                          .remedy = "write a whole model: --merge --model FOLDER"});
    }
    const std::string base = config.model.empty() ? base_of(checkpoint, path) : config.model;
    context.files.write_folder(config.output,
                               encode_peft(checkpoint.layout, checkpoint.x, checkpoint.lora, base));
    context.log.info(fmt::format("{}: the adapter after {} rounds, as a PEFT folder ({})",
                                 config.output, checkpoint.rounds_done,
                                 format_bytes(size_of_folder(config.output))));
}

SaveOptions save_options(const Config& config) {
    SaveOptions options;
    if (config.save_dtype == "fp32") options.type = StoredType::f32;
    if (config.save_dtype == "bf16") options.type = StoredType::bf16;
    if (config.save_dtype == "fp16") options.type = StoredType::f16;
    options.shard_bytes = static_cast<std::int64_t>(config.max_shard_size * 1e9);
    return options;
}

void export_merged(const Context& context, const Config& config, const fs::path& path) {
    const HfFolder base(config.model);
    const PeftAdapter adapter = read_adapter(path, base.config());
    write_merged_model(base, adapter, save_options(config), context.files, config.output);
    context.log.info(fmt::format("{}: {} with the adapter of {} in its weights ({})", config.output,
                                 config.model, path.string(),
                                 format_bytes(size_of_folder(config.output))));
}

}  // namespace

ExitCode run_export(const Context& context, const Config& config) {
    context.comm.together("export", [&] {
        if (context.comm.rank() != 0) return;
        require_new_folder(config.output);
        const fs::path path = checkpoint_or_folder(config.adapter);
        if (!fs::exists(path)) {
            throw InputError({.what = "there is no adapter",
                              .where = fmt::format("--adapter {}", path.string()),
                              .remedy = "give a run's folder, a checkpoint or a PEFT folder"});
        }
        config.merge ? export_merged(context, config, path) : export_adapter(context, config, path);
    });
    return ExitCode::done;
}

}  // namespace fedit
