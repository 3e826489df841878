// experiment/run_writer.cpp: log, adapter and checkpoint after a round.
#include "fedit/experiment/run_writer.h"

#include <fmt/format.h>

#include "fedit/core/error.h"
#include "fedit/model/dense.h"
#include "fedit/model/merged_model.h"
#include "fedit/model/peft.h"

namespace fedit {

namespace fs = std::filesystem;

namespace {

/// Share of the run's time that rewriting a large log may take between checkpoints.
constexpr double log_share = 0.01;

}  // namespace

void RunWriter::begin(const RunLog& log) {
    files_.write(folder_.config(), log.facts.configuration);
    write_log(log);
}

void RunWriter::write_log(const RunLog& log) {
    const auto start = Clock::now();
    files_.write(folder_.log(), log.encode());
    last_log_ = Clock::now();
    last_log_seconds_ = std::chrono::duration<double>(last_log_ - start).count();
}

void RunWriter::write_log_throttled(const RunLog& log) {
    const double since = std::chrono::duration<double>(Clock::now() - last_log_).count();
    if (last_log_seconds_ <= log_share * since) write_log(log);
}

void RunWriter::write_results(const Checkpoint& state) const {
    const fs::path folder = folder_.result_of(state.rounds_done);
    if (policy_.local_clients == nullptr) return write_result(state, state.x, folder);
    for (const int client : policy_.local_clients->clients()) {
        write_result(state, policy_.local_clients->after(state.rounds_done, client),
                     folder / client_name(client));
    }
}

void RunWriter::write_result(const Checkpoint& state, std::span<const float> x,
                             const fs::path& folder) const {
    if (is_dense(state.layout)) {
        write_merged_model(HfFolder(policy_.base_model),
                           {.config = {}, .layout = state.layout, .x = {x.begin(), x.end()}},
                           {.type = StoredType::f32}, files_, folder);
    } else {
        files_.write_folder(folder, encode_peft(state.layout, x, state.lora, policy_.base_model));
    }
}

void RunWriter::commit(const Checkpoint& state) {
    write_log(state.log);
    write_results(state);
    files_.point(folder_.result_link(),
                 folder_.results().filename() / folder_.result_of(state.rounds_done).filename());
    files_.write(folder_.checkpoint(state.rounds_done), state.encode());
    committed_ = state.rounds_done;
    // Only now is nothing of the earlier rounds needed any more.
    prune(folder_, policy_.keep_last);
    forget_clients(folder_, committed_);
}

void RunWriter::after_round(const Checkpoint& state, Moment moment) {
    const bool due = moment == Moment::last || failures_ > 0 ||
                     state.rounds_done % policy_.checkpoint_every == 0;
    try {
        if (due) {
            commit(state);
            failures_ = 0;
        } else {
            write_log_throttled(state.log);
        }
    } catch (const IoError& error) {
        ++failures_;
        if (moment == Moment::last || failures_ > policy_.checkpoint_every) throw;
        log_.warning(fmt::format("round {} is not saved yet, trying again after the next one: {}",
                                 state.rounds_done, error.what()));
    }
}

}  // namespace fedit
