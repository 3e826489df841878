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

void RunWriter::write_result(const Checkpoint& state, const fs::path& folder) const {
    if (is_dense(state.layout)) {
        write_merged_model(HfFolder(policy_.base_model),
                           {.config = {}, .layout = state.layout, .x = state.x},
                           {.type = StoredType::f32}, files_, folder);
    } else {
        files_.write_folder(folder,
                            encode_peft(state.layout, state.x, state.lora, policy_.base_model));
    }
}

void RunWriter::commit(const Checkpoint& state) {
    write_log(state.log);
    const fs::path result = folder_.result_of(state.rounds_done);
    write_result(state, result);
    files_.point(folder_.result_link(), folder_.results().filename() / result.filename());
    files_.write(folder_.checkpoint(state.rounds_done), state.encode());
    committed_ = state.rounds_done;
    // Only now is nothing of the earlier rounds needed any more.
    for (const std::int64_t round : rounds_in(folder_.state())) {
        if (round < committed_) fs::remove_all(folder_.clients(round));
    }
    prune(folder_, policy_.keep_last);
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
