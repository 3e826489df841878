// experiment/client_store.cpp: a client in training as one HDF5 file.
#include "fedit/experiment/client_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

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

std::string_view to_string(TrainEnd end) {
    switch (end) {
        case TrainEnd::stopped:
            return "stopped";
        case TrainEnd::finished:
            return "finished";
        case TrainEnd::diverged:
            return "diverged";
    }
    return "";
}

std::optional<TrainEnd> parse_end(std::string_view text) {
    for (const TrainEnd end : {TrainEnd::stopped, TrainEnd::finished, TrainEnd::diverged}) {
        if (to_string(end) == text) return end;
    }
    return std::nullopt;
}

/// Members step together: those that have not ended are at one step, and the others ended in an
/// earlier one.
bool are_of_one_moment(std::span<const TrainOutcome> cohort) {
    std::optional<std::int64_t> reached;
    for (const TrainOutcome& member : cohort) {
        if (member.end != TrainEnd::stopped) continue;
        if (reached && *reached != member.state.step) return false;
        reached = member.state.step;
    }
    return std::all_of(cohort.begin(), cohort.end(), [&](const TrainOutcome& member) {
        // The step in which a client diverged is not counted in its state.
        const std::int64_t tried = member.state.step + (member.end == TrainEnd::diverged ? 1 : 0);
        return !reached || tried <= *reached;
    });
}

}  // namespace

fs::path ClientStore::path(int client) const {
    return folder_ / fmt::format("client_{:06}.h5", client);
}

void ClientStore::save(int client, const TrainOutcome& outcome) const {
    const Progress& state = outcome.state;
    Hdf5Writer writer;
    writer.attribute("/", "tag", tag_);
    writer.attribute("/", "client", std::int64_t{client});
    writer.attribute("/", "end", to_string(outcome.end));
    writer.attribute("/", "fault", outcome.fault);
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
    const std::optional<TrainEnd> end = parse_end(reader.text_attribute("/", "end"));
    if (!end) return std::nullopt;
    TrainOutcome outcome;
    outcome.end = *end;
    outcome.fault = reader.text_attribute("/", "fault");
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

std::vector<TrainOutcome> ClientStore::load_cohort(std::span<const int> clients) const {
    std::vector<TrainOutcome> cohort;
    for (const int client : clients) {
        std::optional<TrainOutcome> stored = load(client);
        if (!stored) return {};
        cohort.push_back(std::move(*stored));
    }
    if (!are_of_one_moment(cohort)) return {};
    return cohort;
}

}  // namespace fedit
