// app/init.cpp: `fedit init`: a new model folder with random weights.
#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "app/commands.h"
#include "app/new_folder.h"
#include "fedit/core/error.h"
#include "fedit/core/progress.h"
#include "fedit/experiment/session.h"
#include "fedit/io/json.h"
#include "fedit/model/hf_folder.h"

namespace fedit {
namespace {

void write_model(const Context& context, const Config& config) {
    require_new_folder(config.output);
    const std::vector<std::byte> text = read_file(config.model_config);
    const ModelConfig model = parse_model_config(Json::parse(
        {reinterpret_cast<const char*>(text.data()), text.size()}, config.model_config));
    std::vector<std::byte> weights =
        make_random_weights(model, static_cast<std::uint64_t>(config.seed), usable_cores());
    const auto bytes = static_cast<std::int64_t>(weights.size());
    const std::vector<AtomicFile::Member> members{{"config.json", text},
                                                  {"model.safetensors", std::move(weights)}};
    context.files.write_folder(config.output, members);
    context.log.info(fmt::format("{}: a model of {} parameters ({}), seed {}; fedit inspect {}",
                                 config.output, model.parameters(), format_bytes(bytes),
                                 config.seed, config.output));
}

}  // namespace

ExitCode run_init(const Context& context, const Config& config) {
    context.comm.together("make a model", [&] {
        if (context.comm.rank() == 0) write_model(context, config);
    });
    return ExitCode::done;
}

}  // namespace fedit
