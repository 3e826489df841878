// experiment/client_store.cpp: a client in training as one HDF5 file.
#include "fedit/experiment/client_store.h"

#include <fmt/format.h>

#include <array>

#include "fedit/io/hdf5_image.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

struct StatsField {
    const char* name;
    std::int64_t TrainStats::*count;
    double TrainStats::*value;
};

constexpr std::array<StatsField, 9> stats_fields{{
    {"records", &TrainStats::records, nullptr},
    {"tokens", &TrainStats::tokens, nullptr},
    {"labelled", &TrainStats::labelled, nullptr},
    {"steps", &TrainStats::steps, nullptr},
    {"skipped_batches", &TrainStats::skipped_batches, nullptr},
    {"loss_first", nullptr, &TrainStats::loss_first},
    {"loss_last", nullptr, &TrainStats::loss_last},
    {"loss_sum", nullptr, &TrainStats::loss_sum},
    {"seconds", nullptr, &TrainStats::seconds},
}};

}  // namespace

fs::path ClientStore::path(int client) const {
    return folder_ / fmt::format("client_{:06}.h5", client);
}

void ClientStore::save(int client, const TrainOutcome& outcome) const {
    const Progress& state = outcome.state;
    Hdf5Writer writer;
    writer.attribute("/", "tag", tag_);
    writer.attribute("/", "client", std::int64_t{client});
    writer.attribute("/", "finished", std::int64_t{outcome.finished});
    writer.attribute("/", "step", state.step);
    writer.attribute("/", "optimizer_step", state.optimizer.step);
    for (const StatsField& field : stats_fields) {
        if (field.count != nullptr)
            writer.attribute("/stats", field.name, state.stats.*field.count);
        if (field.value != nullptr)
            writer.attribute("/stats", field.name, state.stats.*field.value);
    }
    writer.column("/x", std::span<const float>(state.x), {"1", "The client's adapter"});
    writer.column("/m", std::span<const float>(state.optimizer.m), {"1", "AdamW's first moment"});
    writer.column("/v", std::span<const float>(state.optimizer.v), {"1", "AdamW's second moment"});
    files_.write(path(client), writer.finish(FileKind::progress));
}

std::optional<TrainOutcome> ClientStore::load(int client) const {
    const fs::path file = path(client);
    if (!is_intact(file, FileKind::progress)) return std::nullopt;
    const Hdf5Reader reader(file, FileKind::progress);
    if (reader.text_attribute("/", "tag") != tag_ ||
        reader.int_attribute("/", "client") != client) {
        return std::nullopt;
    }
    TrainOutcome outcome;
    outcome.finished = reader.int_attribute("/", "finished") != 0;
    outcome.state.step = reader.int_attribute("/", "step");
    outcome.state.optimizer.step = reader.int_attribute("/", "optimizer_step");
    for (const StatsField& field : stats_fields) {
        if (field.count != nullptr)
            outcome.state.stats.*field.count = reader.int_attribute("/stats", field.name);
        if (field.value != nullptr)
            outcome.state.stats.*field.value = reader.double_attribute("/stats", field.name);
    }
    outcome.state.x = reader.floats("/x");
    outcome.state.optimizer.m = reader.floats("/m");
    outcome.state.optimizer.v = reader.floats("/v");
    return outcome;
}

}  // namespace fedit
